package front

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/attest"
	"omega/attest/eat"
)

func TestEvidenceComesInTheFormThatIsAskedFor(t *testing.T) {
	published, err := os.ReadFile("../../../attest/eat/testdata/evidence.json")
	if err != nil {
		t.Fatal(err)
	}
	f := testFront()
	f.Evidence = func(context.Context, attest.Request) ([]byte, error) { return published, nil }
	h := f.Handler()
	tests := []struct {
		name, query, accept string
		status              int
		token               bool
	}{
		{"nothing said", "", "", 200, false},
		{"a browser", "", "text/html,application/xhtml+xml,*/*;q=0.8", 200, false},
		{"JSON by name", "&format=json", "", 200, false},
		{"a token by name", "&format=eat", "", 200, true},
		{"a token by media type", "", eat.EvidenceMediaType, 200, true},
		{"JSON by name wins", "&format=json", eat.MediaType, 200, false},
		{"another form", "&format=xml", "", 400, false},
		{"two forms", "&format=eat&format=json", "", 400, false},
	}
	want, err := attest.ParseEvidence(published)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", EvidencePath+"?nonce="+strings.Repeat("ab", 32)+tt.query, nil)
			r.Header.Set("Accept", tt.accept)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Fatalf("answer %d %s, want %d", w.Code, w.Body, tt.status)
			}
			if tt.status != http.StatusOK {
				return
			}
			read, kind := attest.ParseEvidence, "application/json"
			if tt.token {
				read, kind = eat.Parse, eat.EvidenceMediaType
			}
			got, err := read(w.Body.Bytes())
			if err != nil || w.Header().Get("Content-Type") != kind {
				t.Fatalf("%s: %v", w.Header().Get("Content-Type"), err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	f.Evidence = func(context.Context, attest.Request) ([]byte, error) { return []byte("{}"), nil }
	r := httptest.NewRequest("GET", EvidencePath+"?nonce="+strings.Repeat("ab", 32)+"&format=eat", nil)
	w := httptest.NewRecorder()
	f.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusNotAcceptable {
		t.Errorf("evidence without a form as a token is answered %d", w.Code)
	}
}
