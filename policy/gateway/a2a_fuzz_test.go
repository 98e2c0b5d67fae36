package gateway

import (
	"bytes"
	"testing"
)

// FuzzA2ARequest: what is sent is read again as the same request, and nothing is
// sent that was not read whole.
func FuzzA2ARequest(f *testing.F) {
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"kind":"message","messageId":"q","role":"user","parts":[{"kind":"text","text":"hi"},{"kind":"file","file":{"bytes":"aGk="}},{"kind":"data","data":{"a":[1]}}],"metadata":{"k":1}}}}`,
		`{"jsonrpc":"2.0","id":"a","method":"SendStreamingMessage","params":{"message":{"messageId":"q","role":"ROLE_USER","parts":[{"raw":"aGk=","mediaType":"t"},{"url":"https://x"}]},"configuration":{"historyLength":1}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"t","historyLength":2}}`,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"configuration":{"pushNotificationConfig":{}},"message":{}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/pushNotificationConfig/set","params":{}}`, `[]`, `{"jsonrpc":"2.0"}`, `null`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c a2aCall
		if c.parse(b, "") != nil {
			return
		}
		var again a2aCall
		if fault := again.parse(c.body(), string(c.method.dialect)); fault != nil {
			t.Fatalf("%s is sent as %s, which is refused: %v", b, c.body(), fault)
		}
		if !bytes.Equal(c.body(), again.body()) {
			t.Errorf("%s is sent as %s, and then as %s", b, c.body(), again.body())
		}
	})
}

// FuzzCard: a card that is read has an address in each version that it offers, and
// what is shown of it leads to the gateway alone.
func FuzzCard(f *testing.F) {
	for _, s := range []string{
		`{"name":"a","url":"http://127.0.0.1:1/x","protocolVersion":"0.3.0","capabilities":{"streaming":true},"securitySchemes":{}}`,
		`{"supportedInterfaces":[{"url":"http://127.0.0.1:1/x","protocolBinding":"JSONRPC","protocolVersion":"1.0"}]}`,
		`{"url":"http://h/..","protocolVersion":"0.3"}`, `{"url":"http://h","protocolVersion":"0.3","preferredTransport":"GRPC"}`, `{}`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCard(b)
		if err != nil {
			return
		}
		for d, u := range c.at {
			if u.Path == "" || u.Path[0] != '/' || d != dialect03 && d != dialect10 {
				t.Errorf("%s: version %s is spoken at %q", b, d, u)
			}
		}
		shown := c.shown("http://gateway/a2a/x", true)
		if at, ok := shown["url"]; ok && at != "http://gateway/a2a/x" || shown["additionalInterfaces"] != nil || shown["securitySchemes"] != nil {
			t.Errorf("%s is shown as %v", b, shown)
		}
	})
}

// FuzzPeerMessage: what another platform sends is read within its bounds.
func FuzzPeerMessage(f *testing.F) {
	f.Add([]byte(`{"version":"omega/peer/v1","from":{"name":"a","instance":"i","bundle":"00","keys":[]},"labels":["readers:a"],"answer":{}}`))
	f.Add([]byte(`{"version":"omega/peer/v1","from":{"name":"a","instance":"i","bundle":"0000000000000000000000000000000000000000000000000000000000000000","keys":["k"]},"labels":[],"answer":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a peerAnswer
		if boundary(b, &a) != nil || checkBoundary(a.Version, a.From, a.Labels) != nil {
			return
		}
		for _, l := range a.Labels {
			if !labelForm(l) {
				t.Errorf("%q passes as a label", l)
			}
		}
	})
}
