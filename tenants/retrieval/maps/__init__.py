"""Maps: the vectors of a workspace as points in the plane, to look at.

`reading` takes vectors out of the database, one an asset; `points` places them, by PCA at once or as a job left them;
`job` is that job; `colours` says what is known of each point now; `likeness` compares chosen assets; `comparing` lays
the maps of two models over each other.
"""
