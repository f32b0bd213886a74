"""Data sets of a user's own files: a folder of samples, or one HDF5 file.

A sample is a set of named arrays:

    points    [N, 1], [N, 2] or [N, 3]  coordinates of the N points, a number of its own for every sample
    targets   [N] or [N, C]             fields to predict; not needed where a model predicts
    inputs    [N] or [N, C]             optional: what is known at the points beside their coordinates; an array of
                                        another length, or a number, holds for the sample as a whole
    cells     [F, K]                    optional: numbers of the points of each mesh cell, from 0, for pictures and
                                        mesh files; K = 2 lines, 3 triangles, 4 quadrilaterals in the plane and
                                        tetrahedra in space, 8 hexahedra; `cells_quad` and the like name another type

Other names are given by the options `points`, `inputs` and `targets`: several names separated by commas, each with the
columns to take where not all are wanted (`surface_fields:0`, `velocity:0-1`). What is the name of an array is that
array.

A file is a sample: `.npz`; `.h5` or `.hdf5` with the arrays at its root; or a mesh in a format of VTK or meshio, with
fields at its points, and field data as values of the sample. What a mesh has at its cells is taken as well with
the option `cell_data`: `centres` makes the centres of the cells the points, `nodes` averages it to the points.

An HDF5 file may also hold many samples, one group each. The samples of the subfolder (or HDF5 group) `train` train,
those of `val` validate, and those of `test`, and of others whose name begins with `test`, are tests; where there are no
such folders, tests are drawn at random, or the option `split` divides the samples.
"""
