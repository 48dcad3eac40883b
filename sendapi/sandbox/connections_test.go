package sandbox

import (
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
)

func (r *rig) refuse(refuse bool) {
	r.t.Helper()
	if err := r.RefuseConnections(refuse); err != nil {
		r.t.Fatal(err)
	}
	r.client.CloseIdleConnections() // they are cut, and the client may not have seen it
}

func TestRefuseConnections(t *testing.T) {
	r := start(t, Config{})
	address := r.URL()
	for range 3 { // again and again, each twice
		if rep := r.send("1", "hello"); rep.status != http.StatusOK {
			t.Fatalf("before: %s", rep.code())
		}
		r.refuse(true)
		r.refuse(true)
		for range 2 {
			if _, err := r.trySend("1", "hello"); !isRefused(err) {
				t.Errorf("error %v, want connection refused", err)
			}
		}
		if status, _ := r.control("GET", "/summary", ""); status != http.StatusOK {
			t.Errorf("control: %d", status)
		}
		r.refuse(false)
		r.refuse(false)
	}
	if rep := r.send("1", "hello"); rep.status != http.StatusOK || r.URL() != address {
		t.Errorf("after: %s at %s, before at %s", rep.code(), r.URL(), address)
	}
	if c := r.Counts(); c.Calls != 4 || c.Accepted != 4 {
		t.Errorf("a refused connection is no call: %+v", c)
	}
}

// Open connections are cut, those of calls under way and idle ones; what was delivered stays delivered.
func TestRefuseConnectionsCutsCalls(t *testing.T) {
	r := start(t, Config{})
	idle, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	hit := make(chan Call, 1)
	r.Script(Fault{Action: Hang, Accept: true, OnHit: func(c Call) { hit <- c }})
	ended, _ := r.sendAside("4711")
	<-hit
	r.refuse(true)
	if err := <-ended; err == nil {
		t.Error("the call under way was answered")
	}
	if deadline, _ := within(t).Deadline(); idle.SetReadDeadline(deadline) == nil {
		if _, err := idle.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the idle connection: %v", err)
		}
	}
	r.refuse(false)
	r.Clear()
	if rep := r.send("4711", "hello"); rep.status != http.StatusOK {
		t.Errorf("afterwards: %s", rep.code())
	}
	if n := len(r.DeliveredTo(pageIDFor("token"), "4711")); n != 2 {
		t.Errorf("delivered %d times, want the call that was cut and the one afterwards", n)
	}
}

func TestRefuseConnectionsUntilTheEnd(t *testing.T) {
	r := start(t, Config{})
	r.refuse(true)
	if err := r.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for _, refuse := range []bool{true, false} {
		if err := r.RefuseConnections(refuse); err == nil || !strings.HasPrefix(err.Error(), "sandbox: refuse connections:") {
			t.Errorf("after Close: %v", err)
		}
	}
}

// Another process may take the address meanwhile; then the error says so and the call can be repeated.
func TestRefuseConnectionsLosesItsAddress(t *testing.T) {
	r := start(t, Config{})
	r.refuse(true)
	other, err := net.Listen("tcp", strings.TrimPrefix(r.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.RefuseConnections(false); err == nil {
		t.Error("listens where somebody else does")
	}
	other.Close()
	r.refuse(false)
	if rep := r.send("1", "hello"); rep.status != http.StatusOK {
		t.Errorf("afterwards: %s", rep.code())
	}
}

func TestRefuseConnectionsUnderLoad(t *testing.T) {
	r := start(t, Config{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = r.trySend("1", "x")
				}
			}
		})
	}
	for i := range 10 {
		seen := r.Counts().Calls
		if err := r.wait(within(t), func(c Counts) bool { return c.Calls > seen }); err != nil {
			t.Fatalf("round %d: no calls come: %v", i, err)
		}
		r.refuse(true)
		r.refuse(false)
	}
	close(stop)
	wg.Wait()
}

func TestControlConnections(t *testing.T) {
	r := start(t, Config{})
	for _, step := range []struct {
		body   string
		status int
		refuse bool
	}{{`{"refuse":true}`, 200, true}, {`{"refuse":"yes"}`, 400, true}, {`{"refuse":false}`, 200, false}, {`{"off":true}`, 400, false}} {
		if status, body := r.control("PUT", "/connections", step.body); status != step.status {
			t.Errorf("%s: %d %s", step.body, status, body)
		}
		r.client.CloseIdleConnections()
		if _, err := r.trySend("1", "x"); isRefused(err) != step.refuse {
			t.Errorf("after %s: %v", step.body, err)
		}
	}
}
