"""The kinds of datasets: what each is made of, how a task reads that, and what a query with state adds up."""
