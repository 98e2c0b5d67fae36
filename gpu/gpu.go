// Package gpu brings an NVIDIA GPU up in confidential mode: it finds the devices,
// asks the driver through a program of its own (gpu/nvml), appraises what the GPU
// says of itself (gpu/evidence), and only then lets it take work.
//
// Nothing here has met a GPU in confidential mode; docs/gpu.md says what has been
// tried and how.
package gpu
