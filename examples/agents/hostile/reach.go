package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

const gateway = "127.0.0.1:3128"

// dialOut tries every address that a careless platform would answer at.
func dialOut() error {
	for _, a := range []string{"1.1.1.1:443", "8.8.8.8:53", "10.0.2.2:80", "10.0.2.3:53", "10.0.2.15:8443", "169.254.169.254:80",
		"[fd00:ec2::254]:80", "127.0.0.1:8443", "[::1]:8443", "127.0.0.1:22", "100.100.100.200:80"} {
		if c, err := net.DialTimeout("tcp", a, time.Second); err == nil {
			return errors.Join(fmt.Errorf("reached %s", a), c.Close())
		}
	}
	if _, err := net.LookupHost("example.com"); err == nil {
		return errors.New("resolved a name")
	}
	return nil
}

// otherSockets tries raw packets, the hypervisor's sockets and Bluetooth.
func otherSockets() error {
	for name, family := range map[string]int{"packet": syscall.AF_PACKET, "vsock": 40, "bluetooth": 31, "alg": 38, "tipc": 30} {
		if fd, err := syscall.Socket(family, syscall.SOCK_RAW, 0); err == nil {
			_ = syscall.Close(fd)
			return fmt.Errorf("a %s socket", name)
		}
	}
	return nil
}

// abstractSockets looks for sockets without a file, which namespaces of files
// do not hide.
func abstractSockets() error {
	list, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil
	}
	for _, line := range strings.Split(string(list), "\n") {
		if _, name, ok := strings.Cut(line, "@"); ok {
			if c, err := net.Dial("unix", "@"+name); err == nil {
				return errors.Join(fmt.Errorf("connected to @%s", name), c.Close())
			}
		}
	}
	return nil
}

// gatewayDoors asks the gateway for what is not an agent's.
func gatewayDoors() error {
	for _, request := range []string{
		"GET /.well-known/omega/evidence?nonce=00 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /log/checkpoint HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/deploy HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"POST /v1/invoke/worker HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
		"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254:80\r\n\r\n",
		"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
		"GET /mcp/../../etc/omega/policy.json HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /mcp/files HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
		"POST /mcp/notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
	} {
		status, err := ask(request)
		if err == nil && status < 300 {
			return fmt.Errorf("%d for %.60q", status, request)
		}
	}
	return nil
}

func ask(request string) (int, error) {
	c, err := net.DialTimeout("tcp", gateway, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// floodGateway opens as many requests as it can, and never reads the answers.
func floodGateway() error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		c, err := net.DialTimeout("tcp", gateway, time.Second)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(c, strings.Repeat("GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 50))
		_ = c.Close()
	}
	return nil
}
