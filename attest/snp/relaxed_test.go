package snp

import "testing"

func TestEveryRelaxationOfAPolicyIsNamed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Policy)
		want   int
	}{
		{"none", func(*Policy) {}, 0},
		{"stricter", func(p *Policy) { p.MinGuestSVN = 3; p.MinTCB[0].TCB = 0xdc18000000000004 }, 0},
		{"fewer products", func(p *Policy) { p.MinTCB = p.MinTCB[:1] }, 0},
		{"fewer models", func(p *Policy) { p.MinTCB[0].First = 1 }, 0},
		{"debugging", func(p *Policy) { p.AllowDebug = true }, 1},
		{"migration and aliases", func(p *Policy) { p.AllowMigration, p.AllowNoAliasCheck = true, true }, 2},
		{"VMPL", func(p *Policy) { p.VMPL = 1 }, 1},
		{"a lower floor", func(p *Policy) { p.MinTCB[1].TCB = 0x531700000000000a }, 1},
		{"a lower floor for one model", func(p *Policy) { p.MinTCB = append(p.MinTCB, Floor{Milan, 1, 1, 0}) }, 1},
		{"more models", func(p *Policy) { p.MinTCB[0].Last = 0x5f }, 1},
		{"models between the known", func(p *Policy) { p.MinTCB[1].Last = 0xaf }, 1},
	} {
		p := DefaultPolicy()
		tt.change(&p)
		if got := p.Relaxations(); len(got) != tt.want {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

func TestNothingIsSaidToBeDeniedThatIsAllowed(t *testing.T) {
	p := DefaultPolicy()
	p.AllowDebug = true
	if c := p.guestPolicy(&Report{GuestPolicy: PolicyStrict}); c.Words != "the host cannot migrate the guest (bit 18); debugging is allowed by the appraisal policy" {
		t.Error(c.Words)
	}
}
