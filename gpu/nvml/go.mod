module omega/gpu/nvml

go 1.26.0

require github.com/NVIDIA/go-nvml v0.13.4-1

require (
	golang.org/x/sys v0.48.0
	omega v0.0.0
)

replace omega => ../..
