"""Tests of data_pipeline.additive."""
