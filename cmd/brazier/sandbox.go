package main

import (
	"context"
	"fmt"
	"time"

	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

type sandboxCommand struct {
	Listen  string        `name:"listen" env:"BRAZIER_SANDBOX_LISTEN" default:"127.0.0.1:9090" group:"sandbox" help:"Address of the simulated Graph API."`
	Control string        `name:"control-listen" default:"127.0.0.1:9091" group:"sandbox" help:"Address of the control path, which scripts faults and shows the record of calls; or off."`
	Pages   string        `name:"pages" env:"BRAZIER_SANDBOX_PAGES" type:"path" group:"sandbox" help:"Page file whose pages and tokens exist. Without one every token is taken for a page of its own."`
	Latency time.Duration `name:"latency" default:"100ms" group:"sandbox" help:"Time between a call and its answer."`
	Jitter  time.Duration `name:"jitter" default:"50ms" group:"sandbox" help:"By how much that varies, up or down."`
	Rate    int           `name:"page-rate" default:"300" group:"sandbox" help:"Calls a second above which a page is blocked, as at Facebook. -1: no limit."`
	Volume  int           `name:"high-volume" default:"40" group:"sandbox" help:"Messages a second that a page may not stay above for long, as at Facebook. -1: no limit."`
	Seed    uint64        `name:"seed" default:"0" group:"sandbox" help:"Makes answers vary the same way each run. 0: random."`
	Remote  bool          `name:"allow-remote" group:"sandbox" help:"Listen on addresses that other machines can reach."`
}

func (sandboxCommand) Help() string {
	return "It answers as Facebook's documentation says, and enforces Facebook's limits. Nothing sent to it reaches a person. " +
		"At its start it prints the recipients that misbehave and the control path's commands. Point a worker at it with --graph-url."
}

func (c sandboxCommand) Run(ctx context.Context, std stdio) error {
	cfg := sandbox.Config{Listen: c.Listen, Control: c.Control, Latency: c.Latency, Jitter: c.Jitter, Seed: c.Seed, AllowRemote: c.Remote}
	if c.Pages != "" {
		pages, err := (&pageReader{file: c.Pages, lifted: true}).readFile()
		if err != nil {
			return usageError{err}
		}
		if cfg.Pages, err = simulated(pages); err != nil {
			return usageError{err}
		}
	}
	cfg.AnyPage.Rate, cfg.AnyPage.HighVolume = c.Rate, c.Volume
	for i := range cfg.Pages {
		cfg.Pages[i].Rate, cfg.Pages[i].HighVolume = c.Rate, c.Volume
	}
	s, err := sandbox.New(cfg)
	if err != nil {
		return usageError{inFlags(err)}
	}
	fmt.Fprintf(std.out, "%s\n%s", s.Banner(), s.Help())
	<-ctx.Done()
	return s.Close()
}

// simulated makes the sandbox know the pages of a page file.
func simulated(pages []pageConfig) ([]sandbox.Page, error) {
	known := make([]sandbox.Page, len(pages))
	for i, p := range pages {
		cred, err := p.Secrets.read()
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", p.Name, err)
		}
		known[i] = sandbox.Page{ID: p.ID, Name: p.Name, Token: cred.Token, AppSecret: cred.AppSecret}
	}
	return known, nil
}
