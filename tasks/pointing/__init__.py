"""Combinatorial optimization by pointing: TSP, convex hulls, Delaunay triangulations."""
