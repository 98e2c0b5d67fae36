package devices

import (
	"errors"
	"testing"
	"testing/fstest"
)

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func TestDevicesAreFoundByTheNameWeGaveThem(t *testing.T) {
	sys := fstest.MapFS{
		"block/vda/serial":                 file("omega-config"),
		"block/vdb/serial":                 file("omega-log"),
		"block/sr0/size":                   file("0\n"),
		"class/virtio-ports/vport1p1/name": file("omega.psp.0\n"),
		"class/virtio-ports/vport1p2/name": file("omega.power.0\n"),
		"class/virtio-ports/vport1p0/dev":  file("1:1\n"),
	}
	tests := []struct {
		name string
		find func() (string, error)
		want string
	}{
		{"the config disk", func() (string, error) { return Disk(sys, SerialConfig) }, "vda"},
		{"the log disk", func() (string, error) { return Disk(sys, SerialLog) }, "vdb"},
		{"a disk that is not there", func() (string, error) { return Disk(sys, "omega-conf") }, ""},
		{"the PSP's port", func() (string, error) { return Port(sys, PortPSP) }, "vport1p1"},
		{"the power port", func() (string, error) { return Port(sys, PortPower) }, "vport1p2"},
		{"no bus at all", func() (string, error) { return Port(fstest.MapFS{}, PortPSP) }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := tt.find(); err != nil || got != tt.want {
				t.Errorf("found %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestTwoDevicesOfOneNameAreRefused(t *testing.T) {
	sys := fstest.MapFS{
		"block/vda/serial":        file("omega-config"),
		"block/vdb/serial":        file("omega-config"),
		"class/net/eth0/device/x": file(""),
		"class/net/eth1/device/x": file(""),
	}
	if _, err := Disk(sys, SerialConfig); !errors.Is(err, ErrTwice) {
		t.Errorf("disk: %v", err)
	}
	if _, err := Network(sys); !errors.Is(err, ErrTwice) {
		t.Errorf("network: %v", err)
	}
}

func TestTheNetworkDeviceIsTheOneWithHardware(t *testing.T) {
	sys := fstest.MapFS{
		"class/net/lo/mtu":        file("65536"),
		"class/net/tunl0/mtu":     file("1480"),
		"class/net/eth0/device/x": file(""),
	}
	if got, err := Network(sys); err != nil || got != "eth0" {
		t.Errorf("found %q, %v", got, err)
	}
	delete(sys, "class/net/eth0/device/x")
	if got, err := Network(sys); err != nil || got != "" {
		t.Errorf("found %q, %v", got, err)
	}
}

func TestOnlyAnNVIDIA3DControllerIsAGPU(t *testing.T) {
	tests := []struct {
		name, class, vendor string
		want                bool
		err                 error
	}{
		{"an NVIDIA 3D controller", "0x030200\n", "0x10de\n", true, nil},
		{"another 3D controller", "0x030200\n", "0x1af4\n", false, ErrUnexpected},
		{"an NVIDIA VGA controller", "0x030000\n", "0x10de\n", false, ErrUnexpected},
		{"a VGA controller", "0x030000\n", "0x1234\n", false, ErrUnexpected},
		{"a display of another kind", "0x038000\n", "0x1af4\n", false, ErrUnexpected},
		{"a network card", "0x020000\n", "0x8086\n", false, nil},
		{"an unknown class", "0x130300\n", "0x10de\n", false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sys := fstest.MapFS{
				"bus/pci/devices/0000:00:00.0/class":  file("0x060000\n"),
				"bus/pci/devices/0000:00:01.0/class":  file(tt.class),
				"bus/pci/devices/0000:00:01.0/vendor": file(tt.vendor),
			}
			if got, err := GPU(sys); !errors.Is(err, tt.err) || got != tt.want {
				t.Errorf("GPU %v, %v", got, err)
			}
		})
	}
	t.Run("an unexpected one beside a GPU", func(t *testing.T) {
		sys := fstest.MapFS{}
		for name, vendor := range map[string]string{"0000:00:01.0": "0x10de\n", "0000:00:02.0": "0x1b36\n"} {
			sys["bus/pci/devices/"+name+"/class"], sys["bus/pci/devices/"+name+"/vendor"] = file("0x030200\n"), file(vendor)
		}
		if got, err := GPU(sys); !errors.Is(err, ErrUnexpected) || got {
			t.Errorf("GPU %v, %v", got, err)
		}
	})
	for _, missing := range []string{"class", "vendor"} {
		sys := fstest.MapFS{"bus/pci/devices/0000:00:01.0/class": file("0x030200\n"), "bus/pci/devices/0000:00:01.0/vendor": file("0x10de\n")}
		delete(sys, "bus/pci/devices/0000:00:01.0/"+missing)
		if missing == "class" {
			sys["bus/pci/devices/0000:00:01.0/other"] = file("")
		}
		if _, err := GPU(sys); err == nil {
			t.Errorf("a display that does not tell its %s was passed over", missing)
		}
	}
}

func TestSNPIsSeenByEitherSign(t *testing.T) {
	tests := []struct {
		name string
		root fstest.MapFS
		want bool
	}{
		{"neither", fstest.MapFS{"dev/null": file("")}, false},
		{"a VMPL", fstest.MapFS{"sys/devices/system/cpu/sev/vmpl": file("0")}, true},
		{"the guest device", fstest.MapFS{"dev/sev-guest": file("")}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := SNP(tt.root); got != tt.want {
				t.Errorf("SNP %v", got)
			}
		})
	}
}
