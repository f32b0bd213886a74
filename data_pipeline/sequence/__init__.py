"""Token sequences with labels: one module per task, each with the forms in which its files come and their readers."""
