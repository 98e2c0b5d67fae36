package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// bundles is where images keep the certificate authorities of the web.
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
}

// trusting are the variables in which programs look for certificate authorities.
var trusting = []string{
	"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE", "DENO_CERT", "PIP_CERT",
}

// maxAuthority bounds the gateway's certificate.
const maxAuthority = 64 << 10

// trustOnce calls trust as soon as there is a gateway to ask. An agent that is started ahead finds the
// image's own authorities until then, in the same place.
func trustOnce(link http.RoundTripper, assigned <-chan struct{}) {
	ask := func() {
		if err := trust(link); err != nil {
			fmt.Fprintln(os.Stderr, "shim: the web's certificates:", err)
		}
	}
	select {
	case <-assigned:
		ask()
	default:
		if err := authorities(nil); err != nil {
			fmt.Fprintln(os.Stderr, "shim: the web's certificates:", err)
		}
		go func() {
			<-assigned
			ask()
		}()
	}
}

// trust asks the gateway for this sandbox's own authority, puts it beside the image's, and tells the
// agent where it lies and where its proxy is.
func trust(link http.RoundTripper) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway/ca.pem", nil)
	if err != nil {
		return err
	}
	resp, err := link.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	authority, err := io.ReadAll(io.LimitReader(resp.Body, maxAuthority))
	if err != nil || resp.StatusCode != http.StatusOK {
		return errors.Join(err, errors.New("gateway: "+resp.Status))
	}
	return authorities(authority)
}

// authorities puts one more authority beside the image's own.
func authorities(authority []byte) error {
	for _, path := range bundles {
		if own, err := os.ReadFile(path); err == nil {
			authority = append(append(own, '\n'), authority...)
			break
		}
	}
	path := filepath.Join(os.TempDir(), ".omega-ca.pem")
	if err := os.WriteFile(path+".new", authority, 0o644); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil { // a reader finds one or the other
		return err
	}
	return environment(path)
}

// environment sets the agent's variables; what its bundle set stays.
func environment(bundle string) error {
	var all error
	set := func(name, value string) {
		if os.Getenv(name) == "" {
			all = errors.Join(all, os.Setenv(name, value))
		}
	}
	for _, name := range trusting {
		set(name, bundle)
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		set(name, "http://"+listen)
	}
	set("NO_PROXY", "127.0.0.1,localhost,::1")
	set("no_proxy", "127.0.0.1,localhost,::1")
	return all
}
