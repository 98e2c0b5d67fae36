package snp

import "testing"

func TestAReportNamesItsProductAndChip(t *testing.T) {
	for _, v := range real(t) {
		r, err := ParseReport(v.report)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := r.Product(); err != nil || p != v.product {
			t.Errorf("%s: product %q, %v", v.name, p, err)
		}
		want := 64
		if v.product == Turin {
			want = 8
		}
		if id, err := r.HWID(); r.SigningKey == VCEK && (err != nil || len(id) != want) {
			t.Errorf("%s: HWID of %d bytes, %v", v.name, len(id), err)
		}
		for what, change := range map[string]func(*Report){
			"an old version": func(r *Report) { r.Version = 2 }, "a hidden chip": func(r *Report) { r.ChipID = [64]byte{} },
			"an unknown CPU": func(r *Report) { r.Family = 0x17 },
		} {
			other := *r
			change(&other)
			if _, err := other.HWID(); err == nil {
				t.Errorf("%s: %s has a HWID", v.name, what)
			}
		}
	}
}
