// Command agent is what the sandbox tests run inside: each word asks it to try one thing and say how it went.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

var tries = map[string]func() error{
	"network":  network,
	"parallel": parallel,
	"events":   events,
	"bulk":     bulk,
	"who":      who,
	"write":    write,
	"mmap":     mmap,
	"orphan":   orphan,
	"forward":  forward,
	"exit7":    func() error { os.Exit(7); return nil },
	"sleep":    func() error { fmt.Println("up"); time.Sleep(time.Hour); return nil },
	"stubborn": stubborn,
	"chatter":  chatter,
	"hog":      hog,
	"breed":    breed,
	"serve":    serve,
	"model":    model,
}

func main() {
	for _, word := range os.Args[1:] {
		if err := tries[word](); err != nil {
			fmt.Printf("%s: FAIL: %v\n", word, err)
			os.Exit(1)
		}
		fmt.Printf("%s: ok\n", word)
	}
}

func network() error {
	for _, a := range []string{"1.1.1.1:443", "169.254.169.254:80", "10.0.2.2:80", "[2606:4700::1111]:443"} {
		if c, err := net.DialTimeout("tcp", a, 2*time.Second); err == nil {
			return errors.Join(fmt.Errorf("reached %s", a), c.Close())
		} else if !errors.Is(err, syscall.ENETUNREACH) {
			return fmt.Errorf("%s: %w, not unreachable at once", a, err)
		}
	}
	if _, err := net.LookupHost("example.com"); err == nil {
		return errors.New("resolved a name")
	}
	list, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range list {
		if i.Flags&net.FlagLoopback == 0 {
			return fmt.Errorf("interface %s", i.Name)
		}
	}
	return nil
}

func get(path string) (string, error) {
	r, err := http.Get("http://127.0.0.1:3128" + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return fmt.Sprintf("%d %s", r.StatusCode, b), err
}

func parallel() error {
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for i := range errs {
		wg.Go(func() {
			want := fmt.Sprintf("200 /echo/%d", i)
			if got, err := get(fmt.Sprintf("/echo/%d", i)); err != nil || got != want {
				errs[i] = fmt.Errorf("got %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// events must arrive one by one: the server sends the next only when it hears of the last.
func events() error {
	r, err := http.Get("http://127.0.0.1:3128/events")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	lines := bufio.NewScanner(r.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) {
			return fmt.Errorf("event %d: %q, %v", i, lines.Text(), lines.Err())
		}
		lines.Scan()
		if _, err := get("/seen"); err != nil {
			return err
		}
	}
	return nil
}

func bulk() error {
	r, err := http.Post("http://127.0.0.1:3128/bulk", "", io.LimitReader(zero{}, 16<<20))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	n, err := io.Copy(io.Discard, r.Body)
	if n != 16<<20 {
		return fmt.Errorf("%d bytes came back, %v", n, err)
	}
	return nil
}

type zero struct{}

func (zero) Read(b []byte) (int, error) { return len(b), nil }

func who() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(string(status), want) {
			return fmt.Errorf("no %q in %s", want, status)
		}
	}
	if os.Getuid() != 1000 || os.Getgid() != 1000 {
		return fmt.Errorf("%d:%d", os.Getuid(), os.Getgid())
	}
	if v, ok := os.LookupEnv("OMEGA_LINK_FD"); ok {
		return fmt.Errorf("OMEGA_LINK_FD=%s", v)
	}
	if os.Getenv("MODE") != "test" || os.Getenv("OPENAI_BASE_URL") != "http://127.0.0.1:3128/v1" {
		return fmt.Errorf("environment %q", os.Environ())
	}
	if name, err := os.Hostname(); name != "who-1" {
		return fmt.Errorf("host name %q, %v", name, err)
	}
	if _, err := os.Stat("/proc/self/fd/9"); err == nil {
		return errors.New("the link is open in the agent")
	}
	return nil
}

func write() error {
	if err := os.WriteFile("/tmp/x", []byte("x"), 0o600); err != nil {
		return err
	}
	for _, p := range []string{"/x", "/data/x", "/.omega/shim", "/sys/x"} {
		if err := os.WriteFile(p, []byte("x"), 0o600); err == nil {
			return fmt.Errorf("wrote %s", p)
		}
	}
	return nil
}

// mmap maps files of every size around a block: EROFS may keep small ones beside their inodes.
func mmap() error {
	for _, name := range []string{"1", "100", "4095", "4096", "4097", "9000"} {
		f, err := os.Open("/data/" + name)
		if err != nil {
			return err
		}
		defer f.Close()
		i, err := f.Stat()
		if err != nil {
			return err
		}
		m, err := syscall.Mmap(int(f.Fd()), 0, int(i.Size()), syscall.PROT_READ, syscall.MAP_PRIVATE)
		if err != nil {
			return fmt.Errorf("mapping %s: %w", name, err)
		}
		b, err := os.ReadFile("/data/" + name)
		if err != nil || string(b) != string(m) || string(m) != strings.Repeat("d", len(m)) {
			return fmt.Errorf("%s: read and mapped differ, %v", name, err)
		}
	}
	return nil
}

// model reads and maps the files beside the image, and tries to change them.
func model() error {
	want := strings.Repeat("w", 9000)
	for _, path := range []string{"/models/small", "/data/books"} {
		b, err := os.ReadFile(path)
		if err != nil || string(b) != want {
			return fmt.Errorf("%s: %d bytes, %v", path, len(b), err)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		m, err := syscall.Mmap(int(f.Fd()), 0, len(b), syscall.PROT_READ, syscall.MAP_SHARED)
		if err != nil || string(m) != want {
			return fmt.Errorf("mapping %s: %v", path, err)
		}
		if os.WriteFile(path, []byte("x"), 0o600) == nil || os.Remove(path) == nil || os.WriteFile(filepath.Dir(path)+"/x", nil, 0o600) == nil {
			return fmt.Errorf("%s can be changed", path)
		}
	}
	return nil
}

// orphan leaves a process behind that the sandbox's first process must reap.
func orphan() error {
	return exec.Command("/agent", "network").Start()
}

func forward() error {
	c, err := net.Dial("tcp", "127.0.0.1:3128")
	if err != nil {
		return err
	}
	defer c.Close()
	for _, line := range []string{"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"} {
		if _, err := io.WriteString(c, line); err != nil {
			return err
		}
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		if b, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusForbidden || string(b) != "denied by policy\n" {
			return fmt.Errorf("%s, %v", r.Status, err)
		}
	}
	return nil
}

func stubborn() error {
	signal.Ignore(syscall.SIGTERM)
	fmt.Println("up")
	time.Sleep(time.Hour)
	return nil
}

func chatter() error {
	for i := range 200 {
		fmt.Printf("line %d %s\x1b[2J\n", i, strings.Repeat("y", 2000))
	}
	return nil
}

// hog takes a gigabyte; it should not live to tell.
func hog() error {
	var kept [][]byte
	for range 1 << 10 {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = byte(i)
		}
		kept = append(kept, b)
	}
	return fmt.Errorf("got %d MiB", len(kept))
}

// breed starts processes until it is stopped.
func breed() error {
	for n := range 1000 {
		if err := exec.Command("/agent", "sleep").Start(); err != nil {
			fmt.Printf("%d processes: %v\n", n, err)
			return nil
		}
	}
	return errors.New("a thousand processes")
}

// serve answers one request of the gateway, and ends.
func serve() error {
	if os.Getenv("OMEGA_INBOUND_FD") != "" || os.Getenv("OMEGA_INBOUND_PORT") != "" {
		return errors.New("the agent sees the shim's variables")
	}
	done := make(chan struct{})
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s heard %s", r.Host, b)
		close(done)
	})}
	go func() {
		<-done
		_ = server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	time.Sleep(100 * time.Millisecond) // the shim hands the answer on
	return nil
}
