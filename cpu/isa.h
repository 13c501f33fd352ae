// isa: which instruction set the rest of this translation unit is compiled for.
//
// Every file in cpu/kernels is compiled once per instruction set with
// -DHR_ISA=reference|plain|avx2|avx512|neon and baseline compiler flags. This header switches code generation
// by pragma and names the namespace that all code after it lives in (hr::reference, hr::cpu_plain,
// hr::cpu_avx2, ...).
//
// Include it, or a header that starts with it (cpu/simd.h, cpu/kernels/*.h), after every other header.
// Reason: inline functions of headers seen earlier must stay baseline. The linker keeps one copy of each
// such function for the whole program; were it the AVX-512 copy, older machines would crash. For the same
// reason code in these namespaces instantiates no std containers or algorithms: a template is compiled for
// the instruction set in force at the end of the file.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef HR_ISA
#error "compile with -DHR_ISA=reference, plain, avx2, avx512 or neon"
#endif

#define HR_PASTE_(a, b) a##b
#define HR_PASTE(a, b) HR_PASTE_(a, b)

// Names to numbers, so that #if can compare them. An unknown name is undefined and therefore 0.
#define HR_ISA_NUMBER_reference 1
#define HR_ISA_NUMBER_plain 2
#define HR_ISA_NUMBER_avx2 3
#define HR_ISA_NUMBER_avx512 4
#define HR_ISA_NUMBER_neon 5
#define HR_ISA_NUMBER HR_PASTE(HR_ISA_NUMBER_, HR_ISA)

#define HR_IS_REFERENCE (HR_ISA_NUMBER == 1)
#define HR_IS_PLAIN (HR_ISA_NUMBER == 2)
#define HR_IS_AVX2 (HR_ISA_NUMBER == 3)
#define HR_IS_AVX512 (HR_ISA_NUMBER == 4)
#define HR_IS_NEON (HR_ISA_NUMBER == 5)

#if HR_ISA_NUMBER == 0
#error "unknown HR_ISA; expected reference, plain, avx2, avx512 or neon"
#elif HR_IS_AVX2
#pragma GCC target("avx,avx2,fma,f16c,bmi,bmi2")
#elif HR_IS_AVX512
#pragma GCC target("avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512vl,avx512bw,avx512dq,prefer-vector-width=512")
#elif HR_IS_NEON && !defined(__aarch64__)
#error "HR_ISA=neon needs an arm64 compiler"
#endif

#if HR_IS_REFERENCE
#define HR_ISA_NAMESPACE reference
#else
#define HR_ISA_NAMESPACE HR_PASTE(cpu_, HR_ISA)
#endif

#define HR_INLINE inline __attribute__((always_inline))
#define HR_NOINLINE __attribute__((noinline))

namespace hr::HR_ISA_NAMESPACE {

inline constexpr bool kIsReference = HR_IS_REFERENCE;
inline constexpr bool kIsPlain = HR_IS_PLAIN;
inline constexpr bool kIsAvx2 = HR_IS_AVX2;
inline constexpr bool kIsAvx512 = HR_IS_AVX512;
inline constexpr bool kIsNeon = HR_IS_NEON;

// True where multiply-add rounds once.
inline constexpr bool kHasFma = HR_IS_AVX2 || HR_IS_AVX512 || HR_IS_NEON;

}  // namespace hr::HR_ISA_NAMESPACE
