package front

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"omega/policy"
)

var callersNow = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// everybody are the callers of a policy that names none.
func everybody() *Callers {
	c, err := NewCallers(&policy.Document{Agents: []policy.AgentRule{{Name: "a"}}}, time.Now)
	if err != nil {
		panic(err)
	}
	return c
}

// provider is an identity provider with one key of each kind.
type provider struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
}

func publicPEM(t testing.TB, key any) (text, id string) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), hex.EncodeToString(sum[:])
}

// jwt signs header and claims by RS256 or ES256.
func (p *provider) jwt(t testing.TB, alg, header, claims string) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(header)) + "." + b64([]byte(claims))
	sum := sha256.Sum256([]byte(signed))
	var sig []byte
	var err error
	if alg == algRS256 {
		sig, err = rsa.SignPKCS1v15(rand.Reader, p.rsa, crypto.SHA256, sum[:])
	} else {
		r, s, failed := ecdsa.Sign(rand.Reader, p.ec, sum[:])
		err = failed
		sig = make([]byte, 64)
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
	}
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(sig)
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &provider{r, e}
}

// tenants is a platform of two tenants and a public agent.
func tenants(t testing.TB, p *provider, key *ecdsa.PrivateKey) *Callers {
	t.Helper()
	ours, id := publicPEM(t, key.Public())
	r, _ := publicPEM(t, p.rsa.Public())
	e, _ := publicPEM(t, p.ec.Public())
	c, err := NewCallers(&policy.Document{
		Agents: []policy.AgentRule{{Name: "red-1"}, {Name: "blue-1"}, {Name: "open"}},
		Callers: []policy.Caller{
			{Name: "red", Keys: []policy.Key{{ID: id, PEM: ours}}, Rights: []string{policy.RightObserve, policy.RightDeploy}, Agents: []string{"red-*"}},
			{Name: "blue", Rights: []string{policy.RightObserve, policy.RightInvoke}, Agents: []string{"blue-*"}, OIDC: &policy.OIDC{
				Issuer: "https://id.example", Audience: "omega", Subject: "repo:blue/*", Keys: []policy.IssuerKey{{ID: "r", PEM: r}, {ID: "e", PEM: e}},
			}},
			{Name: "public", Anonymous: true, Rights: []string{policy.RightObserve}, Agents: []string{"open"}},
		},
	}, func() time.Time { return callersNow })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func claims(change ...string) string {
	c := fmt.Sprintf(`{"iss":"https://id.example","sub":"repo:blue/x","aud":"omega","exp":%d,"nbf":%d,"more":1}`, callersNow.Unix()+300, callersNow.Unix()-5)
	return strings.NewReplacer(change...).Replace(c)
}

const headES, headRS = `{"alg":"ES256","kid":"e","typ":"JWT"}`, `{"alg":"RS256","kid":"r"}`

func TestEachTenantSeesItsOwnAgentsAndThePublicOnes(t *testing.T) {
	p := newProvider(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := tenants(t, p, key)
	der := func(k *ecdsa.PrivateKey) []byte {
		b, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tt := range []struct {
		name   string
		spki   []byte
		token  string
		want   []string
		deploy bool
	}{
		{"nobody", nil, "", []string{"open"}, false},
		{"a key of the policy", der(key), "", []string{"red-1", "open"}, true},
		{"a key of nobody", der(other), "", []string{"open"}, false},
		{"a token by ES256", nil, p.jwt(t, algES256, headES, claims()), []string{"blue-1", "open"}, false},
		{"a token by RS256", nil, p.jwt(t, algRS256, headRS, claims(`"omega"`, `["x","omega"]`)), []string{"blue-1", "open"}, false},
		{"a key and a token", der(key), p.jwt(t, algES256, headES, claims()), []string{"red-1", "blue-1", "open"}, true},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if tt.spki != nil {
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{RawSubjectPublicKeyInfo: tt.spki}}}
		}
		if tt.token != "" {
			r.Header.Set("Authorization", "Bearer "+tt.token)
		}
		who, err := c.Identify(r)
		if err != nil || !slices.Equal(who.Observed(), tt.want) {
			t.Errorf("%s sees %q, %v; want %q", tt.name, who.Observed(), err, tt.want)
		}
		if who.May(policy.RightDeploy, "red-1") != tt.deploy || who.May(policy.RightDeploy, "blue-1") || who.May(policy.RightApprove, "open") {
			t.Errorf("%s has a right that is not its own", tt.name)
		}
	}
}

func TestATokenThatIsNotGoodIsRefused(t *testing.T) {
	p, stranger := newProvider(t), newProvider(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := tenants(t, p, key)
	good := p.jwt(t, algES256, headES, claims())
	exp := fmt.Sprintf(`"exp":%d`, callersNow.Unix()+300)
	es := func(header, claims string) string { return p.jwt(t, algES256, header, claims) }
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"by somebody else":        stranger.jwt(t, algES256, headES, claims()),
		"another issuer":          es(headES, claims("https://id.example", "https://id.example.org")),
		"another audience":        es(headES, claims(`"omega"`, `"other"`)),
		"no audience":             es(headES, claims(`"aud":"omega",`, "")),
		"another subject":         es(headES, claims("repo:blue/x", "repo:red/x")),
		"a long subject":          es(headES, claims("repo:blue/x", "repo:blue/"+strings.Repeat("x", maxSubject))),
		"a subject below":         es(headES, claims("repo:blue/x", "repo:blue/x/y")),
		"over":                    es(headES, claims(exp, fmt.Sprintf(`"exp":%d`, callersNow.Unix()-61))),
		"for ever":                es(headES, claims(exp, `"exp":99999999999`)),
		"without an end":          es(headES, claims(exp+",", "")),
		"an end that is no time":  es(headES, claims(exp, `"exp":1e3`)),
		"not yet":                 es(headES, claims(fmt.Sprintf(`"nbf":%d`, callersNow.Unix()-5), fmt.Sprintf(`"nbf":%d`, callersNow.Unix()+61))),
		"a claim twice":           es(headES, claims(`"sub"`, `"sub":"repo:blue/x","sub"`)),
		"no algorithm":            es(`{"alg":"none","kid":"e"}`, claims()),
		"another key's algorithm": es(`{"alg":"RS256","kid":"e"}`, claims()),
		"a MAC by a public key":   es(`{"alg":"HS256","kid":"r"}`, claims()),
		"an unknown key":          es(`{"alg":"ES256","kid":"x"}`, claims()),
		"no key id":               es(`{"alg":"ES256"}`, claims()),
		"a key of its own":        es(`{"alg":"ES256","kid":"e","jwk":{}}`, claims()),
		"critical extensions":     es(`{"alg":"ES256","kid":"e","crit":["b64"]}`, claims()),
		"other claims":            parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(claims("x", "y"))) + "." + parts[2],
		"no signature":            parts[0] + "." + parts[1] + ".",
		"two parts":               parts[0] + "." + parts[1],
		"five parts":              good + ".x.y",
		"padded":                  good + "=",
		"nothing":                 "",
		"too long":                strings.Repeat("a", maxToken+1),
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		if who, err := c.Identify(r); err == nil || len(who.Observed()) > 0 || strings.Contains(err.Error(), parts[2]) {
			t.Errorf("%s: sees %q, %v", name, who.Observed(), err)
		}
	}
	for _, header := range [][]string{{"Basic x"}, {"bearer " + good}, {"Bearer " + good, "Bearer " + good}} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Authorization"] = header
		if _, err := c.Identify(r); err == nil {
			t.Errorf("%.20q is taken", header)
		}
	}
}

func TestRoutesAreForThoseWhoMay(t *testing.T) {
	p := newProvider(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := p.jwt(t, algES256, headES, claims())
	nonce := strings.Repeat("ab", 32)
	closed := tenants(t, p, key)
	closed.callers = closed.callers[:2] // nobody anonymous
	for _, tt := range []struct {
		name    string
		callers *Callers
		path    string
		token   string
		want    int
	}{
		{"evidence for everybody", closed, EvidencePath + "?nonce=" + nonce, "", http.StatusOK},
		{"evidence with a bad token", closed, EvidencePath + "?nonce=" + nonce, "x", http.StatusUnauthorized},
		{"the log for an observer", closed, LogPrefix + "checkpoint", good, http.StatusOK},
		{"the log for nobody", closed, LogPrefix + "checkpoint", "", http.StatusUnauthorized},
		{"the log where no callers are known", nil, LogPrefix + "checkpoint", "", http.StatusUnauthorized},
		{"the log for everybody", everybody(), LogPrefix + "checkpoint", "", http.StatusOK},
	} {
		f := testFront()
		f.Callers = tt.callers
		r := httptest.NewRequest(http.MethodGet, tt.path, nil)
		if tt.token != "" {
			r.Header.Set("Authorization", "Bearer "+tt.token)
		}
		w := httptest.NewRecorder()
		f.Handler().ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, w.Code, tt.want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("e30.e30.")
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJhIiwic3ViIjoiYiIsImF1ZCI6ImMiLCJleHAiOjF9.AAAA")
	f.Fuzz(func(_ *testing.T, text string) {
		if t, err := parseToken(text); err == nil {
			_ = t.claims.audiences()
		}
	})
}
