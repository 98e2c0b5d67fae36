package measure

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"omega/internal/vectors"
)

type golden struct {
	VCPUs         int     `json:"vcpus"`
	VCPUType      string  `json:"vcpu_type"`
	VMM           string  `json:"vmm"`
	OVMF          string  `json:"ovmf"`
	GuestFeatures string  `json:"guest_features"`
	KernelTag     string  `json:"kernel_tag"`
	KernelLen     int     `json:"kernel_len"`
	InitrdTag     string  `json:"initrd_tag"`
	InitrdLen     int     `json:"initrd_len"`
	Cmdline       *string `json:"cmdline"`
	LaunchDigest  string  `json:"launch_digest"`
}

// content follows the golden file's content_rule.
func content(tag string, n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		h := sha256.Sum256(fmt.Appendf(nil, "%s:%d", tag, i))
		b = append(b, h[:]...)
	}
	return b[:n]
}

func (g golden) input(t *testing.T) Input {
	features, err := strconv.ParseUint(g.GuestFeatures, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	in := Input{
		OVMF:  vectors.Read(t, "launch-digest", "ovmf_"+g.OVMF+"_suffix.bin"),
		VCPUs: g.VCPUs, CPU: g.VCPUType, VMM: VMM(strings.ToLower(g.VMM)), GuestFeatures: features,
	}
	if g.KernelTag != "" {
		in.Kernel = Bytes(content(g.KernelTag, g.KernelLen))
	}
	if g.InitrdTag != "" {
		in.Initrd = Bytes(content(g.InitrdTag, g.InitrdLen))
	}
	if g.Cmdline != nil {
		in.Cmdline = Cmdline(*g.Cmdline)
	}
	return in
}

func TestLaunchDigestEqualsTheReferenceTool(t *testing.T) {
	var file struct{ Cases []golden }
	if err := json.Unmarshal(vectors.Read(t, "launch-digest", "golden.json"), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) < 60 {
		t.Fatalf("%d golden cases, want 60 or more", len(file.Cases))
	}
	for i, g := range file.Cases {
		got, err := LaunchDigest(g.input(t))
		if err != nil {
			t.Errorf("case %d: %v", i, err)
		} else if hex.EncodeToString(got[:]) != g.LaunchDigest {
			t.Errorf("case %d, %+v: digest %x", i, g, got)
		}
	}
}
