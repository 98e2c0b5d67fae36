package front

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestAClientThatFloodsIsRefusedAndOthersAreNot(t *testing.T) {
	h := testFront().Handler()
	ask := func(address string) int {
		r := httptest.NewRequest("GET", EvidencePath+"?nonce="+strings.Repeat("ab", 32), nil)
		r.RemoteAddr = address
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	refused := 0
	for range 3 * evidenceBurst {
		switch code := ask("192.0.2.1:1000"); code {
		case http.StatusOK:
		case http.StatusTooManyRequests:
			refused++
		default:
			t.Fatalf("answer %d", code)
		}
	}
	if refused == 0 {
		t.Error("a flood was answered")
	}
	if code := ask("192.0.2.2:1000"); code != http.StatusOK {
		t.Errorf("another client is answered %d", code)
	}
}

func TestTokensComeBackAndMemoryIsBounded(t *testing.T) {
	now := time.Unix(1700000000, 0)
	r := newRates(func() time.Time { return now })
	client := networkOf("192.0.2.1:1")
	for range evidenceBurst {
		if !r.allow(client) {
			t.Fatal("refused within the burst")
		}
	}
	if r.allow(client) {
		t.Error("more than the burst was allowed")
	}
	now = now.Add(time.Second)
	for range evidencePerSecond {
		if !r.allow(client) {
			t.Fatal("refused after a second")
		}
	}
	if r.allow(client) {
		t.Error("more than the rate was allowed")
	}
	for i := range 3 * maxClients {
		r.allow(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
	}
	if len(r.clients) > maxClients {
		t.Errorf("%d clients are remembered", len(r.clients))
	}
}
