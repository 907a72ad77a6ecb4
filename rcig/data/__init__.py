"""Image datasets as raw arrays: `sources` reads them, `builders` prepares those that need it, `splits` parts them."""
