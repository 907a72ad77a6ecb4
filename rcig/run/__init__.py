"""From settings to a distilled set: the task of a run, the loop that runs it, what feeds it, what it will take."""
