"""Combinatorial optimization with pointer networks: TSP, convex hulls, Delaunay triangulations."""
