"""One technique a file: (graph, context) → graph."""
