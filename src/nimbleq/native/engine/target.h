/* What lies between the two is compiled for these instructions, whatever the flags of the command line say. Headers of
   the compiler come before it. */
#define NQ_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define NQ_TARGET_BEGIN(features) NQ_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define NQ_TARGET_END _Pragma("clang attribute pop")
#else
#define NQ_TARGET_BEGIN(features) _Pragma("GCC push_options") NQ_PRAGMA(GCC target features)
#define NQ_TARGET_END _Pragma("GCC pop_options")
#endif
