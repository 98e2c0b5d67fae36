package snp

import (
	"testing"

	"omega/attest"
)

func failures(checks []attest.Check) map[string]bool {
	out := map[string]bool{}
	for _, c := range checks {
		if c.Status == attest.Failed {
			out[c.Name] = true
		}
	}
	return out
}

func TestTheAppraisalPolicyIsStrictByDefault(t *testing.T) {
	const patched TCB = 0xdb18000000000004
	good := Report{
		Version: 3, GuestPolicy: PolicyStrict, PlatformInfo: PlatformAliasCheck, Family: 0x19, Model: 1,
		CurrentTCB: patched, ReportedTCB: patched, CommittedTCB: patched, LaunchTCB: patched,
	}
	tests := []struct {
		name   string
		change func(*Report, *Policy)
		want   string
	}{
		{"a patched machine", func(*Report, *Policy) {}, ""},
		{"debugging", func(r *Report, _ *Policy) { r.GuestPolicy |= PolicyDebug }, "guest_policy"},
		{"debugging, allowed", func(r *Report, p *Policy) { r.GuestPolicy |= PolicyDebug; p.AllowDebug = true }, ""},
		{"migration", func(r *Report, _ *Policy) { r.GuestPolicy |= PolicyMigrateMA }, "guest_policy"},
		{"migration, debugging allowed", func(r *Report, p *Policy) { r.GuestPolicy |= PolicyMigrateMA; p.AllowDebug = true }, "guest_policy"},
		{"VMPL 1", func(r *Report, _ *Policy) { r.VMPL = 1 }, "vmpl"},
		{"no alias check", func(r *Report, _ *Policy) { r.PlatformInfo = 0 }, "platform"},
		{"old microcode", func(r *Report, _ *Policy) { r.ReportedTCB = 0xd918000000000004 }, "tcb"},
		{"may be rolled back", func(r *Report, _ *Policy) { r.CommittedTCB = 0xdb17000000000004 }, "tcb"},
		{"was old at launch", func(r *Report, _ *Policy) { r.LaunchTCB = 0xdb18000000000003 }, "tcb"},
		{"is old now", func(r *Report, _ *Policy) { r.CurrentTCB = 0 }, "tcb"},
		{"a model without a floor", func(r *Report, _ *Policy) { r.Model = 0x50 }, "tcb"},
		{"no floors", func(_ *Report, p *Policy) { p.MinTCB = nil }, "tcb"},
		{"a lower guest SVN", func(_ *Report, p *Policy) { p.MinGuestSVN = 1 }, "guest_svn"},
		{"another measurement", func(_ *Report, p *Policy) { p.Measurements = []attest.Bytes48{{1}} }, "measurement"},
		{"a known measurement", func(r *Report, p *Policy) {
			r.Measurement = [48]byte{1}
			p.Measurements = []attest.Bytes48{{2}, {1}}
		}, ""},
		{"other host data", func(_ *Report, p *Policy) { p.HostData = &attest.Bytes32{1} }, "host_data"},
		{"other report data", func(_ *Report, p *Policy) { p.ReportData = &attest.Bytes64{1} }, "report_data"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, p := good, DefaultPolicy()
			tt.change(&r, &p)
			got := failures(p.Check(&Verified{Report: &r, Product: Milan}))
			if (tt.want == "") != (len(got) == 0) || tt.want != "" && !got[tt.want] {
				t.Errorf("failures are %v, want %q", got, tt.want)
			}
		})
	}
}

func TestDefaultFloorsFitTheRealMachines(t *testing.T) {
	roots := mustRoots(t)
	p := DefaultPolicy()
	for _, v := range real(t)[:3] {
		got, err := Verify(v.report, Chain{Leaf: mustCert(t, v.leaf)}, roots, v.at)
		if err != nil {
			t.Fatal(err)
		}
		if f := failures(p.Check(got)); len(f) != 0 {
			t.Errorf("%s fails %v", v.name, f)
		}
	}
}

func TestPoliciesAreReadStrictly(t *testing.T) {
	p, err := ParsePolicy([]byte(`{"version":"omega/snp-policy/v1","vmpl":1}`))
	if err != nil || p.VMPL != 1 || len(p.MinTCB) == 0 {
		t.Errorf("policy is %+v, %v", p, err)
	}
	p, err = ParsePolicy([]byte(`{"version":"omega/snp-policy/v1","min_tcb":[{"product":"Turin","first_model":0,"last_model":31,"tcb":"0x5100000004010101"}]}`))
	if err != nil || len(p.MinTCB) != 1 || p.MinTCB[0].TCB != 0x5100000004010101 {
		t.Errorf("policy is %+v, %v", p, err)
	}
	for _, text := range []string{
		``, `{}`, `{"version":"omega/snp-policy/v2"}`, `{"version":"omega/snp-policy/v1","vmlp":1}`,
		`{"version":"omega/snp-policy/v1","measurements":["00"]}`,
		`{"version":"omega/snp-policy/v1","min_tcb":[{"product":"Naples","first_model":0,"last_model":31,"tcb":"0x5100000004010101"}]}`,
		`{"version":"omega/snp-policy/v1","min_tcb":[{"product":"Turin","first_model":0,"last_model":31,"tcb":"0x51"}]}`,
	} {
		if _, err := ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%s: accepted", text)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(`{"version":"omega/snp-policy/v1","vmpl":1,"min_tcb":[{"product":"Turin","first_model":0,"last_model":31,"tcb":"0x5100000004010101"}]}`))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = ParsePolicy(b) })
}
