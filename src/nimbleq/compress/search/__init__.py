"""Among a ladder of sizes, the smallest policy that passes selection and is certified."""
