package evidence

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// indexNVDEC0 is the RIM index that has no meaning while NVDEC0 is off, as in
// NVIDIA's attestation SDK.
const indexNVDEC0 = 35

// comparison is a report held against one RIM.
type comparison struct {
	rim      *RIM
	matched  int
	excepted []int // RIM indexes
	differ   []int // RIM indexes
}

// compareMeasurements finds a driver RIM and a VBIOS RIM that the report meets.
func (a *appraisal) compareMeasurements(Evidence) error {
	o := &a.report.Opaque
	driver, err := a.match("driver", o.Driver)
	if err != nil {
		return err
	}
	vbios, err := a.match("VBIOS", o.VBIOS)
	if err != nil {
		return err
	}
	for index := range driver.rim.active {
		if _, both := vbios.rim.active[index]; both {
			return fmt.Errorf("%w: measurement %d is active in both RIMs", ErrMismatch, index-indexOffset)
		}
	}
	for index := range a.report.Measurements {
		if driver.rim.active[index] == nil && vbios.rim.active[index] == nil {
			a.r.Unreferenced = append(a.r.Unreferenced, index-indexOffset)
		}
	}
	slices.Sort(a.r.Unreferenced)
	a.r.Matched = driver.matched + vbios.matched
	a.r.Excepted = slices.Concat(driver.excepted, vbios.excepted)
	a.r.prove("measurements", fmt.Sprintf("%d measurements equal the reference values of driver and VBIOS", a.r.Matched))
	a.tellRest()
	return nil
}

// tellRest names every measurement that nothing was proven of, and RIMs of no use.
func (a *appraisal) tellRest() {
	tell := func(format string, args ...any) {
		a.r.Checks = append(a.r.Checks, Check{Name: "measurements", Status: NotProven, Words: fmt.Sprintf(format, args...)})
	}
	if len(a.r.Excepted) > 0 {
		tell("measurements %v differ, by an exception (policy, or NVDEC0 is off)", a.r.Excepted)
	}
	if len(a.r.Unreferenced) > 0 {
		tell("measurements %v have no active reference value", a.r.Unreferenced)
	}
	for _, r := range a.c.rims {
		if !slices.Contains(a.used, r) {
			tell("RIM %s %s was not used", r.Product, r.Version)
		}
	}
}

// match is the first RIM of this version that the report meets. There may be
// several: NVIDIA issues them anew under one name.
func (a *appraisal) match(kind, version string) (*comparison, error) {
	var nearest *comparison
	var others []string
	for _, r := range a.c.rims {
		if !strings.EqualFold(r.Version, version) {
			if o := &a.report.Opaque; !strings.EqualFold(r.Version, o.Driver) && !strings.EqualFold(r.Version, o.VBIOS) {
				others = append(others, r.Version)
			}
			continue
		}
		c := a.compare(r)
		if len(c.differ) == 0 {
			a.use(kind, r)
			return c, nil
		}
		if nearest == nil || len(c.differ) < len(nearest.differ) {
			nearest = c
		}
	}
	switch {
	case nearest != nil:
		return nil, fmt.Errorf("%w: measurements %v are not those of the RIM of %s %s, SHA-256 %x", ErrMismatch, nearest.differ, kind, version, nearest.rim.SHA256)
	case len(others) > 0:
		return nil, fmt.Errorf("%w: no RIM of %s %s, but of %s", ErrMismatch, kind, version, strings.Join(others, ", "))
	}
	return nil, fmt.Errorf("%w: no RIM of %s %s", ErrCollateral, kind, version)
}

// compare holds every active measurement of a RIM against the report; one that
// the report lacks differs.
func (a *appraisal) compare(r *RIM) *comparison {
	c := &comparison{rim: r}
	for _, index := range slices.Sorted(maps.Keys(r.active)) {
		got, has := a.report.Measurements[index]
		rimIndex := index - indexOffset
		switch {
		case has && slices.Contains(r.active[index], got):
			c.matched++
		case slices.Contains(a.p.Policy.Exceptions, rimIndex), rimIndex == indexNVDEC0 && a.report.Opaque.nvdecOff:
			c.excepted = append(c.excepted, rimIndex)
		default:
			c.differ = append(c.differ, rimIndex)
		}
	}
	return c
}

// use records a RIM that the result rests on.
func (a *appraisal) use(kind string, r *RIM) {
	a.used = append(a.used, r)
	a.r.RIMs = append(a.r.RIMs, UsedRIM{Kind: kind, Version: r.Version, SHA256: hex.EncodeToString(r.SHA256[:])})
	if r.Expires.Before(a.r.Expires) {
		a.r.Expires = r.Expires
	}
}
