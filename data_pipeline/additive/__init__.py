"""Additive manufacturing: simulations of laser powder bed fusion, from result archives or a generator to samples.

On the command line: `python -m data_pipeline.additive --help`. Units are mm, s, °C and MPa; elements are hexahedra in
VTK's order of corners, numbered from 0.
"""
