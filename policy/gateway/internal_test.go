package gateway

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"omega/internal/strictjson"
	"omega/policy"
)

func TestAddressesAreOpenOnlyWhereThePolicySaysSo(t *testing.T) {
	tests := []struct {
		addr            string
		public, private bool // allowed for a public, a private upstream
	}{
		{"93.184.215.14", true, true},
		{"2606:2800:21f:cb07:6820:80da:af6b:8b2c", true, true},
		{"127.0.0.1", false, true},
		{"::1", false, true},
		{"::ffff:127.0.0.1", false, true},
		{"10.0.2.2", false, true},
		{"172.31.255.255", false, true},
		{"172.32.0.1", true, true},
		{"192.168.1.1", false, true},
		{"100.64.0.1", false, true},
		{"fd12::1", false, true},
		{"169.254.169.254", false, false},
		{"::ffff:169.254.169.254", false, false},
		{"64:ff9b::a9fe:a9fe", false, false},
		{"2002:a9fe:a9fe::1", false, false},
		{"fd00:ec2::254", false, false},
		{"100.100.100.200", false, false},
		{"168.63.129.16", false, false},
		{"fd20:ce::254", false, false},
		{"fe80::1%eth0", false, false},
		{"0.0.0.0", false, false},
		{"::", false, false},
		{"255.255.255.255", false, false},
		{"224.0.0.1", false, false},
		{"ff02::1", false, false},
	}
	for _, tc := range tests {
		ip := netip.MustParseAddr(tc.addr)
		if err := allowed(ip, false); (err == nil) != tc.public {
			t.Errorf("%s for a public upstream: %v", tc.addr, err)
		}
		if err := allowed(ip, true); (err == nil) != tc.private {
			t.Errorf("%s for a private upstream: %v", tc.addr, err)
		}
	}
}

func TestEventsAreReadAsTheStandardSays(t *testing.T) {
	tests := []struct {
		name, in string
		want     []string
		err      error
	}{
		{"one", "data: a\n\n", []string{"a"}, nil},
		{"lines and names", "event: x\ndata: a\ndata:b\ndata\nid: 3\n\n: c\n\ndata: d\r\n\r\n", []string{"a\nb\n", "d"}, nil},
		{"cut", "data: a\n", nil, nil},
		{"too long", "data: " + strings.Repeat("x", 100) + "\n\n", nil, errTooLong},
		{"too many", strings.Repeat("data: x\n\n", 20), []string{"x", "x", "x", "x", "x", "x", "x"}, errTooLong},
	}
	for _, tc := range tests {
		e := newEvents(t.Context(), strings.NewReader(tc.in), 64)
		for _, want := range tc.want {
			if got, err := e.next(); err != nil || string(got) != want {
				t.Errorf("%s: %q %v, want %q", tc.name, got, err, want)
			}
		}
		if _, err := e.next(); err == nil || tc.err != nil && !errors.Is(err, tc.err) {
			t.Errorf("%s: ends with %v, want %v", tc.name, err, tc.err)
		}
	}
}

func TestSitesHaveOneNotation(t *testing.T) {
	w := policy.Web{Hosts: []string{"api.example.com", "*.data.example.com", "192.0.2.1", "2001:db8::1"}, Ports: []int{443, 8443}}
	for in, want := range map[string]bool{
		"api.example.com:443": true, "API.example.com:8443": true, "a.b.data.example.com:443": true, "192.0.2.1:443": true,
		"[2001:db8::1]:443": true, "api.example.com:80": false, "data.example.com:443": false, "evildata.example.com:443": false,
		"api.example.com.:443": false, "api.example.com.evil.org:443": false, "192.0.2.01:443": false, "3221225985:443": false,
		"0xc0.0.2.1:443": false, "[::ffff:192.0.2.1]:443": false, "[fe80::1%25eth0]:443": false, "xn--e1awd7f.com:443": false,
		"аpi.example.com:443": false, "api.example.com:0443": true, "api.example.com:99999": false, "api.example.com%00.evil.org:443": false, ":443": false,
	} {
		s, err := parseSite("https", in)
		if got := err == nil && covers(w, s); got != want {
			t.Errorf("%s: %v (%v), want %v", in, got, err, want)
		}
	}
}

func TestPinsAreReadStrictly(t *testing.T) {
	for name, in := range map[string]string{
		"twice":         `[{"name":"a","description":"","input_schema":{}},{"name":"a","description":"x","input_schema":{}}]`,
		"no schema":     `[{"name":"a","description":""}]`,
		"schema true":   `[{"name":"a","description":"","input_schema":true}]`,
		"name":          `[{"name":"../a","description":"","input_schema":{}}]`,
		"unknown field": `[{"name":"a","description":"","inputSchema":{}}]`,
		"object":        `{}`,
		"nothing":       ``,
	} {
		if pins, err := parsePins([]byte(in)); err == nil {
			t.Errorf("%s: read as %v", name, pins)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{}}}`))
	f.Add([]byte(`[{"jsonrpc":"2.0"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, fault := parseRequest(b)
		if fault != nil {
			return
		}
		var p map[string]any
		if fault := m.params(&p, false); fault == nil {
			if _, err := strictjson.Canonical(p); err != nil {
				t.Fatalf("accepted parameters without a form to forward: %v", err)
			}
		}
	})
}

func FuzzParseChat(f *testing.F) {
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}],"tools":[{"type":"function","function":{"name":"x"}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseChat(b)
		if err != nil || c.limit(10) != nil {
			return
		}
		text, err := strictjson.Canonical(c)
		if err != nil {
			t.Fatalf("accepted but not forwardable: %v", err)
		}
		again, err := parseChat(text)
		if err != nil {
			t.Fatalf("own form %s refused: %v", text, err)
		}
		if second, _ := strictjson.Canonical(again); !bytes.Equal(text, second) {
			t.Fatalf("%s became %s", text, second)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"tools\":[]}}\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		events := newEvents(t.Context(), bytes.NewReader(b), 1<<16)
		for {
			data, err := events.next()
			if err != nil {
				return
			}
			if raw, ours, err := (&session{endpoint: &endpoint{link: &link{g: &Gateway{}}}}).takeAnswer(context.Background(), data, message{id: 1}, nil); err == nil && ours {
				_, _ = addPage(map[string]pin{}, raw)
			}
			_, _ = clean(data)
		}
	})
}

func FuzzParsePins(f *testing.F) {
	f.Add([]byte(`[{"name":"a","description":"d","input_schema":{"properties":{"x":{"x-mcp-header":"X"}}}}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		pins, err := parsePins(b)
		if err != nil {
			return
		}
		for _, p := range pins {
			if !p.same(p) {
				t.Fatal("a tool differs from itself")
			}
			_ = paramHeaders(p.bindings, map[string]any{"x": "y"})
		}
	})
}
