"""What the tool is for, field by field: the examples over folds and seeds, beside what the field compares with."""
