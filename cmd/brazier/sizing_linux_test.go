package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
)

var (
	sizingFor  = flag.Duration("sizing.for", 0, "how long TestSizing posts; 0: it is not run")
	sizingRate = flag.Int("sizing.rate", 1000, "messages a second in TestSizing")

	sizingPartitions = flag.Int("sizing.partitions", 1, "partitions of the queue in TestSizing")
)

// TestSizing measures what a message costs each process of a fleet with a NATS cluster of three: the inputs of deploy/SIZING.md. nats-0
// leads the stream of jobs, and nothing else that messages go through; nats-1 leads all others. Those of further partitions are led by
// the next servers.
func TestSizing(t *testing.T) {
	if *sizingFor == 0 {
		return // by hand, on a quiet machine
	}
	addresses, configs := clusterOfThree(t, "always")
	fleet := map[string]*proc{}
	for i, config := range configs {
		fleet[fmt.Sprintf("nats-%d", i)] = startProcess(t, "nats-server", "-c", config)
	}
	var pages []testPage
	for i := range 10 {
		p := newTestPage(fmt.Sprint(1_029_384_700+i), fmt.Sprintf("page%02d", i))
		p.extra = "    rate: 300\n"
		pages = append(pages, p)
	}
	file := "--pages=" + writePages(t, pages...)
	facebook := startProcess(t, "brazier", "sandbox", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", "--braze-listen=off", file,
		"--latency=20ms", "--jitter=10ms", "--page-rate=-1", "--high-volume=-1")
	graph, control := facebook.address(t, `Graph API +(http://\S+)`), facebook.address(t, `Control +(http://\S+)`)
	common := []string{file, "--nats-url=nats://" + strings.Join(addresses, ",nats://"), "--replicas=3", "--log-format=json"}
	listen, ops := freeAddress(t), freeAddress(t)
	eventually(t, "the streams are made", func() bool {
		return command(t, "", "setup", "--nats-url=nats://"+addresses[0], "--replicas=3", fmt.Sprint("--partitions=", *sizingPartitions)).code == cli.ExitOK
	})
	fleet["worker"] = startProcess(t, "brazier", append([]string{"worker", "--graph-url=" + graph, "--ops-listen=off"}, common...)...)
	fleet["ingress"] = startProcess(t, "brazier", append([]string{"ingress", "--listen=" + listen, "--ops-listen=" + ops}, common...)...)
	eventually(t, "the ingress is ready", func() bool { return isReady("http://" + ops + "/readyz") })
	lead(t, "nats://"+addresses[0])

	before := map[string]usage{}
	for name, p := range fleet {
		before[name] = usageOf(t, p)
	}
	began := time.Now()
	c := awayCampaign{listen: listen, pages: pages, people: 100_000}
	c.post(t, *sizingRate, *sizingFor, func() {})
	posted := time.Since(began)
	eventually(t, "all messages are delivered", func() bool { return int64(facebookAccepted(t, control)) == c.accepted.Load() })
	n := float64(c.accepted.Load())
	t.Logf("%.0f messages posted in %v and delivered in %v", n, posted.Round(time.Second), time.Since(began).Round(time.Second))
	for _, name := range []string{"ingress", "worker", "nats-0", "nats-1", "nats-2"} {
		used := usageOf(t, fleet[name])
		t.Logf("%-8s %.2f ms of processor time and %.0f bytes written for a message, %d MiB of memory", name,
			(used.cpu-before[name].cpu).Seconds()*1000/n, float64(used.written-before[name].written)/n, rssOf(fleet[name])>>20)
	}
}

// usage is what a process has used since it was started.
type usage struct {
	cpu     time.Duration
	written int64 // bytes, to disks
}

func usageOf(t *testing.T, p *proc) (c usage) {
	t.Helper()
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(io), "\nwrite_bytes: ")
	line, _, _ := strings.Cut(after, "\n")
	if c.written, err = strconv.ParseInt(line, 10, 64); err != nil {
		t.Fatal(err)
	}
	c.cpu = cpuOf([]*proc{p})
	return c
}

// lead has nats-0 lead the stream of jobs, and nats-1 the others.
func lead(t *testing.T, url string) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for stream := range js.ListStreams(t.Context()).Info() {
		name, leader := stream.Config.Name, "nats-1"
		if queue.HoldsJobs(name) {
			number, _ := strconv.Atoi(strings.TrimPrefix(name, queue.StreamJobs+"_"))
			leader = fmt.Sprint("nats-", max(number-1, 0)%3)
		}
		eventually(t, leader+" leads "+name, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if s, err := js.Stream(ctx, name); err != nil {
				return false
			} else if s.CachedInfo().Cluster.Leader == leader {
				return true
			}
			request, _ := json.Marshal(map[string]any{"placement": map[string]any{"preferred": leader}})
			_, _ = nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+name, request)
			return false
		})
	}
}
