package snp

import (
	"bytes"
	"errors"
	"fmt"
)

// Product is the product line of the CPU that made the report, as the report
// says. Before version 3 it does not say.
func (r *Report) Product() (Product, error) {
	if r.Version < 3 {
		return "", fmt.Errorf("a report of version %d does not say which product made it", r.Version)
	}
	for i := range productLines {
		if l := &productLines[i]; l.has(r.Family, r.Model) {
			return l.product, nil
		}
	}
	return "", fmt.Errorf("CPU family %#x model %#x is no known product", r.Family, r.Model)
}

// HWID is the name of the chip in its VCEK certificate: as much of CHIP_ID as
// the product uses.
func (r *Report) HWID() ([]byte, error) {
	p, err := r.Product()
	if err != nil {
		return nil, err
	}
	l, err := lineOf(p)
	if err != nil {
		return nil, err
	}
	if r.ChipID == ([64]byte{}) {
		return nil, errors.New("the report hides its CHIP_ID")
	}
	return bytes.Clone(r.ChipID[:l.hwid]), nil
}
