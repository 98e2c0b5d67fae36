package eat

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/attest"
	"omega/attest/snp"
	"omega/internal/cbor"
	"omega/internal/membound"
	"omega/internal/vectors"
)

// bootClaims are those of the published vectors.
func bootClaims() attest.BootClaims {
	return attest.BootClaims{
		Version: attest.BootVersion, BootID: [16]byte{1}, AttestationKey: [32]byte{2}, LogKey: [32]byte{3}, TLSKey: [32]byte{4}, HPKEKey: [32]byte{5},
		LogOrigin: "omega/01000000000000000000000000000000", PolicyDigest: [32]byte{6}, ConfigDigest: [32]byte{7}, Profile: "cpu", SVN: 3, GPU: attest.GPUAbsent,
	}
}

// report is a report of the published vectors. Nobody signed it.
func report(data [64]byte) []byte {
	r := snp.Report{
		Version: 3, GuestPolicy: snp.PolicyStrict, Family: 0x19, Model: 1, ReportData: data, ChipID: [64]byte{9}, Measurement: [48]byte{10},
	}
	return r.Marshal()
}

// evidence is that of the published vectors: one agent shown, one hidden.
func evidence() *attest.Evidence {
	components := []attest.Component{
		{Kind: "image", Name: "alpha", Digest: [32]byte{1}, Role: "author", Principal: "ann", Salt: [16]byte{1},
			Signatures: []attest.Signature{{Key: []byte("key"), Payload: []byte("payload"), Sig: []byte("sig")}}},
		{Kind: attest.KindPolicy, Name: "policy", Digest: [32]byte{6}, Salt: [16]byte{2}},
	}
	agents := []attest.Agent{
		{Index: 0, Instance: "alpha-1", State: attest.AgentRunning, Name: "alpha", Bundle: [32]byte{8}, Salt: [16]byte{3}, Identity: attest.IdentityRoot(components), Components: components},
		{Index: 1, Hidden: [32]byte{11}},
	}
	nonces := attest.Nonces{{12}, {13}}
	e := &attest.Evidence{
		Version: attest.EvidenceVersion, Certificates: []byte("table"), Boot: bootClaims(), Nonce: nonces.Proofs()[0], Agents: agents,
		Session: attest.Session{
			Version: attest.SessionVersion, NonceRoot: nonces.Root(), NonceCount: 2, Checkpoint: []byte("note"),
			AgentsRoot: attest.AgentsRoot(agents), AgentCount: 2,
		},
	}
	e.Report = report(attest.ReportData(e.Boot.Digest(), e.Session.Digest()))
	return e
}

func certificateEvidence() *attest.CertificateEvidence {
	c := &attest.CertificateEvidence{Version: attest.CertificateVersion, Certificates: []byte("table"), Boot: bootClaims(), NotBefore: 1700000000}
	c.Report = report(c.ReportData(c.Boot.TLSKey))
	return c
}

// TestPublishedVectors holds the encoding against testdata, which other
// verifiers may use. OMEGA_WRITE_VECTORS=1 writes it anew.
func TestPublishedVectors(t *testing.T) {
	e, c := evidence(), certificateEvidence()
	token, err := Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	text, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := MarshalCertificate(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		name string
		got  string
	}{
		{"evidence.json", string(text)}, {"evidence.eat.hex", lines(token)}, {"certificate.eat.hex", lines(certificate)},
	} {
		path := filepath.Join("testdata", v.name)
		got := strings.TrimSuffix(v.got, "\n") + "\n"
		if os.Getenv("OMEGA_WRITE_VECTORS") != "" {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != got {
			t.Errorf("%s differs from what is written now: the format changed, and needs another version", v.name)
		}
	}
}

// lines is b in hex, 32 bytes a line.
func lines(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		n := min(32, len(b))
		out.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return out.String()
}

// crowd is evidence of a dozen agents that share their components.
func crowd(t *testing.T) *attest.Evidence {
	t.Helper()
	e := evidence()
	var set attest.AgentSet
	for i := range byte(12) {
		a := e.Agents[0]
		a.Components = slices.Clone(a.Components)
		a.Instance, a.Components[0].Salt = fmt.Sprint("alpha-", i), attest.Bytes16{i, 1}
		a.Identity = attest.IdentityRoot(a.Components)
		var err error
		if set, err = set.With(a); err != nil {
			t.Fatal(err)
		}
	}
	view := attest.View{Visible: func(string) bool { return true }}
	if err := view.Show(e, set); err != nil {
		t.Fatal(err)
	}
	if e.Agents[11].Components[0].Known.IsZero() {
		t.Fatal("nothing is shared")
	}
	return e
}

func TestATokenSaysWhatTheJSONSays(t *testing.T) {
	for name, e := range map[string]*attest.Evidence{"one agent": evidence(), "agents that share": crowd(t)} {
		t.Run(name, func(t *testing.T) { saysTheSame(t, e) })
	}
}

func saysTheSame(t *testing.T, e *attest.Evidence) {
	t.Helper()
	text, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := attest.ParseEvidence(text)
	if err != nil {
		t.Fatal(err)
	}
	token, err := Marshal(fromJSON)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON, got); diff != "" {
		t.Error(diff)
	}
	again, err := got.Marshal()
	if err != nil || !bytes.Equal(again, text) {
		t.Errorf("the JSON of what was read differs: %v", err)
	}
	if len(token) >= len(text) {
		t.Errorf("the token has %d bytes, the JSON %d", len(token), len(text))
	}
}

// TestEveryFieldOfEvidenceSurvives fills each field, so that one that is added
// to evidence and lost in the token is noticed.
func TestEveryFieldOfEvidenceSurvives(t *testing.T) {
	for _, v := range []any{new(attest.Evidence), new(attest.BootClaims), new(attest.Agent), new(attest.Component)} {
		fill(reflect.ValueOf(v).Elem())
		tree, err := cbor.ToValue(v)
		if err != nil {
			t.Fatal(err)
		}
		b, err := cbor.Encode(tree)
		if err != nil {
			t.Fatal(err)
		}
		back, err := cbor.Decode(b, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(v).Elem())
		if err := cbor.FromValue(back, got.Interface()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(v, got.Interface()); diff != "" {
			t.Errorf("%T: %s", v, diff)
		}
	}
}

// fill sets every field to something that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i))
			}
		}
	}
}

// claimsOf reads a token's claims set.
func claimsOf(t *testing.T, token []byte) cbor.Map {
	t.Helper()
	v, err := cbor.Decode(token, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return v.(cbor.Tag).Value.(cbor.Map)
}

func TestStandardClaimsSayWhatTheReportSays(t *testing.T) {
	e := evidence()
	token, err := Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	m := claimsOf(t, token)
	for _, want := range []struct {
		key   int64
		value any
	}{
		{10, e.Nonce.Nonce[:]}, {258, int64(3704)}, {259, []byte("Milan")}, {263, int64(2)}, {265, EvidenceProfile}, {268, e.Boot.BootID[:]},
		{270, "omega cpu"}, {271, []any{"3", int64(4)}}, {273, []any{[]any{int64(42), e.Report}}},
	} {
		if got, _ := m.Get(want.key); !cmp.Equal(got, want.value) {
			t.Errorf("claim %d is %v, want %v", want.key, got, want.value)
		}
	}
	if ueid, _ := m.Get(int64(256)); len(ueid.([]byte)) != 33 || ueid.([]byte)[0] != 1 {
		t.Errorf("ueid is %x, want type RAND and 32 bytes", ueid)
	}
	submods, _ := m.Get(int64(266))
	if name, _ := submods.(cbor.Map)[0].Value.(cbor.Map).Get(int64(270)); name != "alpha" {
		t.Errorf("the first submodule is called %v", name)
	}
}

func TestDebugAndEmulationShow(t *testing.T) {
	tests := []struct {
		name   string
		change func(r *snp.Report, b *attest.BootClaims)
		key    int64
		want   any
	}{
		{"the host may debug", func(r *snp.Report, _ *attest.BootClaims) { r.GuestPolicy |= snp.PolicyDebug }, claimDebug, int64(debugEnabled)},
		{"a shell inside", func(_ *snp.Report, b *attest.BootClaims) { b.Profile = "debug" }, claimDebug, int64(debugEnabled)},
		{"an emulated PSP has no maker", func(r *snp.Report, _ *attest.BootClaims) { r.FamilyID = snp.EmulatedFamilyID }, claimOEMID, nil},
		{"an emulated PSP is no chip", func(r *snp.Report, _ *attest.BootClaims) { r.FamilyID = snp.EmulatedFamilyID }, claimUEID, nil},
		{"a hidden CHIP_ID names no chip", func(r *snp.Report, _ *attest.BootClaims) { r.ChipID = [64]byte{} }, claimUEID, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := evidence()
			r, err := snp.ParseReport(e.Report)
			if err != nil {
				t.Fatal(err)
			}
			tt.change(r, &e.Boot)
			e.Report = r.Marshal()
			token, err := Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := claimsOf(t, token).Get(tt.key); got != tt.want {
				t.Errorf("claim %d is %v, want %v", tt.key, got, tt.want)
			}
			if _, err := Parse(token); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestClaimsThatContradictTheReportAreRefused changes one claim of a token at a
// time: what is read twice must be said twice.
func TestClaimsThatContradictOneAnotherAreRefused(t *testing.T) {
	token, err := Marshal(evidence())
	if err != nil {
		t.Fatal(err)
	}
	set := func(key int64, value any) func(cbor.Map) cbor.Map {
		return func(m cbor.Map) cbor.Map {
			for i := range m {
				if m[i].Key == key {
					m[i].Value = value
					return m
				}
			}
			return append(m, cbor.Pair{Key: key, Value: value})
		}
	}
	drop := func(key int64) func(cbor.Map) cbor.Map {
		return func(m cbor.Map) cbor.Map {
			out := cbor.Map{}
			for _, p := range m {
				if p.Key != key {
					out = append(out, p)
				}
			}
			return out
		}
	}
	tests := []struct {
		name   string
		change func(cbor.Map) cbor.Map
	}{
		{"another nonce", set(claimNonce, make([]byte, 32))},
		{"another chip", set(claimUEID, make([]byte, 33))},
		{"another maker", set(claimOEMID, int64(1))},
		{"another model", set(claimHWModel, []byte("Turin"))},
		{"another debug state", set(claimDebug, int64(4))},
		{"another boot", set(claimBootSeed, make([]byte, 16))},
		{"another profile", set(claimProfile, CertificateProfile)},
		{"another image", set(claimSWName, "omega gpu")},
		{"another SVN", set(claimSWVersion, []any{"4", int64(4)})},
		{"no report", set(claimMeasurements, []any{})},
		{"two reports", set(claimMeasurements, []any{[]any{int64(42), []byte{1}}, []any{int64(42), []byte{1}}})},
		{"a report of another kind", set(claimMeasurements, []any{[]any{int64(60), []byte{1}}})},
		{"an unknown claim", set(261, int64(5))},
		{"no nonce", drop(claimNonce)},
		{"no private claims", drop(claimPrivate)},
		{"private claims that are no map", set(claimPrivate, int64(1))},
		{"submodules that are no map", set(claimSubmods, []any{})},
		{"no submodules in them", set(claimSubmods, cbor.Map{})},
		{"a submodule that is no map", set(claimSubmods, cbor.Map{{Key: "0", Value: int64(1)}})},
		{"a submodule without claims", set(claimSubmods, cbor.Map{{Key: "0", Value: cbor.Map{}}})},
		{"an agent left out", func(m cbor.Map) cbor.Map {
			s, _ := m.Get(claimSubmods)
			return set(claimSubmods, s.(cbor.Map)[:1])(m)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			changed, err := cbor.Encode(cbor.Tag{Number: tagUCCS, Value: tt.change(claimsOf(t, token))})
			if err != nil {
				t.Fatal(err)
			}
			e, err := Parse(changed)
			if tt.name == "an agent left out" { // a token may show fewer; the verifier counts
				if err != nil || e.Complete() {
					t.Errorf("%v, %v: want a token that is read, and is not complete", e, err)
				}
				return
			}
			if err == nil {
				t.Error("the token was accepted")
			}
		})
	}
	for name, b := range map[string][]byte{"untagged": token[3:], "another tag": append([]byte{0xd8, 0x3d}, token[3:]...), "empty": nil, "cut": token[:100]} {
		if _, err := Parse(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cert, err := MarshalCertificate(certificateEvidence())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(cert); err == nil {
		t.Error("a certificate's token passed for an answer to a nonce")
	}
	if _, err := ParseCertificate(token); err == nil {
		t.Error("an answer to a nonce passed for a certificate's token")
	}
}

func TestWhatHasNoFormAsATokenIsRefused(t *testing.T) {
	tests := []struct {
		name   string
		change func(e *attest.Evidence)
		words  string
	}{
		{"evidence without a report", func(e *attest.Evidence) {
			*e = attest.Evidence{Version: e.Version, Platform: [32]byte{1}, Signature: make([]byte, 64), Session: e.Session, Nonce: e.Nonce, Agents: e.Agents}
		}, "earlier appraisal"},
		{"agents out of order", func(e *attest.Evidence) { e.Agents[0], e.Agents[1] = e.Agents[1], e.Agents[0] }, "order"},
		{"a report that is none", func(e *attest.Evidence) { e.Report = []byte("x") }, "report"},
		{"another version", func(e *attest.Evidence) { e.Version = "v0" }, "version"},
	}
	for _, tt := range tests {
		e := evidence()
		tt.change(e)
		if _, err := Marshal(e); err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.words)
		}
	}
	c := certificateEvidence()
	c.Certificates = make([]byte, MaxCertificate)
	if _, err := MarshalCertificate(c); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a token too large for a certificate: %v", err)
	}
}

// TestRealReportsNameTheirMaker: AMD's real reports give a token.
func TestRealReportsNameTheirMaker(t *testing.T) {
	raw := vectors.Read(t, "snp", "turin", "turin_attestation_report.bin")
	e := evidence()
	e.Report = raw
	token, err := Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if model, _ := claimsOf(t, token).Get(claimHWModel); !cmp.Equal(model, []byte("Turin")) {
		t.Errorf("hwmodel is %v", model)
	}
}

func FuzzParse(f *testing.F) {
	for _, make := range []func() ([]byte, error){
		func() ([]byte, error) { return Marshal(evidence()) },
		func() ([]byte, error) { return MarshalCertificate(certificateEvidence()) },
	} {
		b, err := make()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		membound.Check(t, b, func() { _, _ = Parse(b) })
		membound.Check(t, b, func() { _, _ = ParseCertificate(b) })
		if e, err := Parse(b); err == nil {
			if again, err := Marshal(e); err != nil || !bytes.Equal(again, b) {
				t.Errorf("a token is written in two ways: %v", err)
			}
		}
		if c, err := ParseCertificate(b); err == nil {
			if again, err := MarshalCertificate(c); err != nil || !bytes.Equal(again, b) {
				t.Errorf("a certificate's token is written in two ways: %v", err)
			}
		}
	})
}
