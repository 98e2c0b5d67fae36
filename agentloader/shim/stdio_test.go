package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// server starts a program with the ends that the shim gives it.
func server(t *testing.T, command ...string) *http.Client {
	t.Helper()
	in, toServer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromServer, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout = in, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	closeOwn([]*os.File{in, out})
	t.Cleanup(func() { _ = cmd.Wait() })
	return asking(t, &stdio{in: toServer, out: fromServer})
}

func TestAServersInputAndOutputAreOneRequest(t *testing.T) {
	client := server(t, "sh", "-c", `while read -r line; do echo "got $line"; done; echo bye`)
	in, say := io.Pipe()
	resp, err := client.Post("http://agent"+stdioPath, "", in)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	defer resp.Body.Close()
	heard := bufio.NewReader(resp.Body)
	for _, word := range []string{"one", "two"} { // an answer comes while the request goes on
		_, _ = io.WriteString(say, word+"\n")
		if line, err := heard.ReadString('\n'); err != nil || line != "got "+word+"\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	if second, err := client.Post("http://agent"+stdioPath, "", strings.NewReader("three\n")); err != nil || second.StatusCode != http.StatusConflict {
		t.Errorf("a second conversation: %v, %v", second, err)
	}
	_ = say.Close() // the server sees the end of its input
	if rest, err := io.ReadAll(heard); err != nil || string(rest) != "bye\n" {
		t.Errorf("at the end %q, %v", rest, err)
	}
}

func TestOnlyTheOnePathLeadsToAServersInput(t *testing.T) {
	client := server(t, "cat")
	for method, path := range map[string]string{"POST": "/", "GET": stdioPath} {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://agent"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := client.Do(r); err != nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s %s: %v, %v", method, path, resp, err)
		}
	}
	resp, err := client.Post("http://agent"+stdioPath, "", http.NoBody) // ends the program
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}
