"""How good a distilled set is: networks trained on it, by protocols, architectures and attacks; and all real images."""
