// Command talker is both ends of a message between two agents, and the plain proxy
// that they are compared with.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("talker:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch args[0] {
	case "serve": // ADDRESS
		return http.ListenAndServe(args[1], http.HandlerFunc(echo))
	case "proxy": // ADDRESS URL
		to, err := url.Parse(args[2])
		if err != nil {
			return err
		}
		return http.ListenAndServe(args[1], &httputil.ReverseProxy{
			Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		})
	}
	return ask(args[1], args[2:]) // "ask" URL SIZE…
}

// echo answers with the parts that it got, and shows its card.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodGet {
		_, _ = io.WriteString(w, os.Getenv("CARD"))
		return
	}
	var m struct {
		ID     json.RawMessage `json:"id"`
		Params struct {
			Message struct {
				Parts json.RawMessage `json:"parts"`
			} `json:"message"`
		} `json:"params"`
	}
	b, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(b, &m) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"kind":"message","messageId":"m","role":"agent","parts":%s}}`, m.ID, m.Params.Message.Parts)
}

// ask sends messages one after the other and prints the middle time for each size.
func ask(at string, sizes []string) error {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := send(at, body(1), 1)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			return err
		}
	}
	for _, s := range sizes {
		size, err := strconv.Atoi(s)
		if err != nil {
			return err
		}
		n := 200
		if size >= 1<<20 {
			n = 30
		}
		text, failures := body(size), 0
		var times []float64
		for len(times) < n { // one that fails is sent again, and its time does not count
			begin := time.Now()
			if err := send(at, text, size); err == nil {
				times = append(times, float64(time.Since(begin)))
			} else if failures++; failures > n/10 {
				return err
			}
		}
		slices.Sort(times)
		fmt.Printf("p50-ns %d %.0f\n", size, times[n/2])
	}
	return nil
}

func body(size int) []byte {
	return []byte(`{"jsonrpc":"2.0","id":7,"method":"message/send","params":{"message":{"kind":"message","messageId":"q","role":"user","parts":[{"kind":"text","text":"` +
		strings.Repeat("x", size) + `"}]}}}`)
}

func send(at string, text []byte, size int) error {
	resp, err := http.Post(at, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && (len(b) < size || !bytes.Contains(b, []byte(`"result"`))) {
		err = fmt.Errorf("%d %.300s", resp.StatusCode, b)
	}
	return err
}
