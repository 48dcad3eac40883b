package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// HealthCommand asks a role that runs whether it can do its work. It is for health checks of images without a shell or curl.
type HealthCommand struct {
	OpsListen string        `name:"ops-listen" default:"127.0.0.1:8081" group:"ops" help:"Address of the ops listener to ask, as the role has it (a worker's default is 127.0.0.1:8082). A host that means every address of the machine, such as 0.0.0.0, is asked at the loopback address."`
	URL       string        `name:"url" env:"-" placeholder:"URL" group:"ops" help:"Address of the ops listener as a URL, such as http://worker:8081, instead of --ops-listen. Default: none."`
	Alive     bool          `name:"alive" env:"-" help:"Ask only whether the process is alive (/healthz), not whether it can do its work (/readyz). For probes whose failure restarts the process."`
	Timeout   time.Duration `name:"timeout" env:"-" default:"3s" help:"Longest time for the answer. Readiness takes up to 2s while NATS does not answer."`
}

func (HealthCommand) Help() string {
	return "Asks /readyz of the ops listener, and prints \"ready\" or, in one line, why not. An ingress that waits for NATS is not ready, and a restart " +
		"would not help it: use --alive where a failure restarts the process, as in Kubernetes's livenessProbe.\n\n" +
		"Exit codes: 0 ready; 1 not ready, or no answer; 2 invalid flags."
}

func (c HealthCommand) Run(ctx context.Context, std cli.Stdio) error {
	address, err := c.address()
	if err != nil {
		return cli.Usage(err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	says, err := ask(ctx, address)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%s did not answer within %v", address, c.Timeout)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(std.Out, says)
	return nil
}

// address returns the URL to ask.
func (c HealthCommand) address() (string, error) {
	if c.Timeout <= 0 {
		return "", &cli.FlagError{Flag: "--timeout", Fault: fmt.Sprintf("must be above 0 (got %v)", c.Timeout)}
	}
	path := "/readyz"
	if c.Alive {
		path = "/healthz"
	}
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return "", &cli.FlagError{Flag: "--url", Fault: "must be http://HOST:PORT, without a path"}
		}
		return u.Scheme + "://" + u.Host + path, nil
	}
	host, port, err := net.SplitHostPort(c.OpsListen)
	switch {
	case c.OpsListen == off:
		return "", &cli.FlagError{Flag: "--ops-listen", Fault: "is off, so that there is nobody to ask: give the role an address"}
	case err != nil || port == "0":
		return "", &cli.FlagError{Flag: "--ops-listen", Fault: fmt.Sprintf("must be HOST:PORT (got %q)", c.OpsListen)}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = loopback(ip)
	}
	return "http://" + net.JoinHostPort(host, port) + path, nil
}

// loopback returns the loopback address at which a listener on all addresses answers: of its own family, since some machines have
// no IPv6.
func loopback(all net.IP) string {
	if all != nil && all.To4() == nil {
		return "::1"
	}
	return "127.0.0.1"
}

// maxReason bounds in bytes what is printed of an answer. The reasons of a role are far shorter.
const maxReason = 1 << 10

// ask returns the first line of the answer, and as an error that of any but 200.
func ask(ctx context.Context, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{ // no proxy of the environment: the listener is on this machine or beside it
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", noAnswer(address, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReason))
	if err != nil {
		return "", err
	}
	says, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	switch resp.StatusCode {
	case http.StatusOK:
		return says, nil
	case http.StatusServiceUnavailable:
		return "", errors.New(cmp.Or(says, "not ready, without a reason"))
	}
	return "", fmt.Errorf("%s answered %s: is that the ops listener of a role?", address, resp.Status)
}

// noAnswer says that nobody answered, and why.
func noAnswer(address string, err error) error {
	if inner := errors.Unwrap(err); inner != nil { // of the *url.Error, which names the address again
		err = inner
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.DeadlineExceeded
	}
	return fmt.Errorf("no answer of %s: %w: does the role run, with this --ops-listen?", address, err)
}
