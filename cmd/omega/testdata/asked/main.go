// Command asked is an agent that answers callers: with what they said, or with
// what came of a request that they asked for: "get URL" or "put URL WORDS".
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	err := http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said, _ := io.ReadAll(r.Body)
		if url, ok := strings.CutPrefix(string(said), "get "); ok {
			resp, err := http.Get(url)
			if err != nil {
				fmt.Fprint(w, err)
				return
			}
			defer resp.Body.Close()
			_, _ = io.Copy(w, resp.Body)
			return
		}
		if order, ok := strings.CutPrefix(string(said), "put "); ok {
			url, words, _ := strings.Cut(order, " ")
			req, err := http.NewRequest(http.MethodPut, url, strings.NewReader(words))
			if err != nil {
				fmt.Fprint(w, err)
				return
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				fmt.Fprint(w, err)
				return
			}
			defer resp.Body.Close()
			fmt.Fprint(w, resp.Status)
			return
		}
		fmt.Fprintf(w, "%s said %s", r.Header.Get("Omega-Caller"), said)
	}))
	fmt.Println(err)
}
