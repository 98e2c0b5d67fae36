package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestARequestsOwnFaultRestsNoUpstream(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/odd" {
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	g := &guard{now: time.Now, next: &http.Transport{}}
	get := func(path, header string) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Mcp-Name", header)
		resp, err := g.RoundTrip(req)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	for range 2 * breakAfter {
		if get("/", "a\nb") == nil || get("/odd", "x") == nil {
			t.Fatal("the odd requests go well")
		}
	}
	if err := get("/", "x"); err != nil {
		t.Error(err)
	}
	g.failed = breakAfter // a true outage, after which an agent tries in vain before the others
	if get("/", "a\nb") == nil || get("/", "x") != nil {
		t.Error("a request that showed nothing was taken for the try")
	}
}
