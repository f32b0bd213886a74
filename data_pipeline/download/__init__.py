"""Public data sets from where they are published: `python -m data_pipeline.download elasticity darcy`."""
