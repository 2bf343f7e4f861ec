"""From a teacher's graph to the smallest policy that provably keeps its return."""
