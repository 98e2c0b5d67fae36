package evidence

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Types of the fields of the opaque data, as in NVIDIA's attestation SDK.
const (
	opaqueDriver   = 3
	opaqueVBIOS    = 6
	opaqueNVDEC0   = 11
	opaqueChip     = 15
	opaqueProject  = 17
	opaqueSKU      = 18
	opaqueFWID     = 20
	opaquePPCIe    = 21
	opaqueFeatures = 36
)

// Values of a state in the opaque data.
const (
	stateOn  = 0xaa
	stateOff = 0x55
)

// Modes of a GPU, as its feature flag tells them.
const (
	ModeUnknown = ""      // the report carries no feature flag
	ModeSPT     = "spt"   // single GPU passthrough, CC on
	ModeMPT     = "mpt"   // several GPUs, CC on
	ModePPCIe   = "ppcie" // protected PCIe: the links between GPUs are not encrypted
)

// Opaque is what NVIDIA adds to a report, under its signature.
type Opaque struct {
	Driver  string // "550.90.07"
	VBIOS   string // "96.00.9F.00.01"
	Project string
	SKU     string
	Chip    string
	Mode    string // one of the modes
	PPCIe   bool   // protected PCIe is on
	FWID    []byte // firmware identifier; nil before driver 550

	nvdecOff bool // NVDEC0 was switched off
}

// parseOpaque reads the fields: type u16, length u16, value. A field twice is
// refused; one of an unknown type is signed, and not looked at.
func parseOpaque(b []byte) (Opaque, error) {
	fields := map[int][]byte{}
	for c := (cursor{b: b}); len(c.b) > 0; {
		kind := c.uint16()
		value := c.block(c.uint16())
		if c.short {
			return Opaque{}, fmt.Errorf("opaque data: field %d is cut off", kind)
		}
		if _, twice := fields[kind]; twice {
			return Opaque{}, fmt.Errorf("opaque data: field %d twice", kind)
		}
		fields[kind] = value
	}
	o := Opaque{FWID: fields[opaqueFWID]}
	if o.FWID != nil && len(o.FWID) != digestSize {
		return Opaque{}, fmt.Errorf("opaque data: firmware identifier of %d bytes", len(o.FWID))
	}
	for _, f := range []struct {
		kind int
		to   *string
	}{{opaqueDriver, &o.Driver}, {opaqueProject, &o.Project}, {opaqueSKU, &o.SKU}, {opaqueChip, &o.Chip}} {
		var err error
		if *f.to, err = opaqueText(fields[f.kind]); err != nil {
			return Opaque{}, fmt.Errorf("opaque data: field %d: %w", f.kind, err)
		}
	}
	if o.Driver == "" {
		return Opaque{}, fmt.Errorf("opaque data: no driver version")
	}
	return o, o.states(fields)
}

// states reads the fields that are not text.
func (o *Opaque) states(fields map[int][]byte) (err error) {
	if o.VBIOS, err = vbiosVersion(fields[opaqueVBIOS]); err != nil {
		return err
	}
	if o.PPCIe, _, err = opaqueState(fields[opaquePPCIe]); err != nil {
		return err
	}
	on, known, err := opaqueState(fields[opaqueNVDEC0])
	if err != nil {
		return err
	}
	o.nvdecOff = known && !on
	flag, has := fields[opaqueFeatures]
	if !has {
		return nil
	}
	modes := []string{ModeSPT, ModeMPT, ModePPCIe}
	// The flag is a small number; NVIDIA's tools read its lowest byte.
	if len(flag) == 0 || int(flag[0]) >= len(modes) || len(bytes.Trim(flag[1:], "\x00")) != 0 {
		return fmt.Errorf("opaque data: feature flag % x", flag)
	}
	o.Mode = modes[flag[0]]
	return nil
}

// opaqueText is a string, ended or padded with zeros.
func opaqueText(b []byte) (string, error) {
	s := strings.TrimRight(string(b), "\x00")
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return "", fmt.Errorf("text %q", s)
		}
	}
	return s, nil
}

// opaqueState is a switch; absent, it is not known.
func opaqueState(b []byte) (on, known bool, err error) {
	if b == nil {
		return false, false, nil
	}
	if len(b) == 0 || (b[0] != stateOn && b[0] != stateOff) {
		return false, false, fmt.Errorf("opaque data: state % x", b)
	}
	return b[0] == stateOn, true, nil
}

// vbiosVersion writes the version as NVIDIA does. The bytes are reversed; behind
// that, the second half of them comes first, then the last byte of the first.
func vbiosVersion(b []byte) (string, error) {
	if len(b) != 8 {
		return "", fmt.Errorf("opaque data: VBIOS version of %d bytes", len(b))
	}
	v := slices.Clone(b)
	slices.Reverse(v)
	v = append(v[4:8:8], v[3])
	var parts []string
	for i := range v {
		parts = append(parts, strings.ToUpper(hex.EncodeToString(v[i:i+1])))
	}
	return strings.Join(parts, "."), nil
}
