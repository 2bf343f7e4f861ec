/* Sums below are of exact products, added in one order: every compiler gets the same bits, and takes the same way. */
#if DBL_MANT_DIG < 53
#error "the splits of this tree need a double of 64 bits: export its integer form (int8)"
#endif
