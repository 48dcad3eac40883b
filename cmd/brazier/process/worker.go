package process

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/deliver"
	"github.com/brazier-relay/brazier/worker/subscription"
)

// Worker is the part that delivers messages. f is read when the part opens. It is long since it does nothing but connect the packages, in
// the order in which they depend on each other.
func (p *Process) Worker(f *GraphFlags) Part {
	var client *sendapi.Client
	var w *worker.Worker
	var back *roadBack
	var subscriptions *subscription.Watcher
	return Part{
		Name: "worker",
		Open: func(context.Context) (err error) {
			log := cli.Component(p.log, "worker")
			warnOfCaps(log, p.pages)
			if warning := sendapi.VersionWarning(f.GraphVersion, time.Now()); warning != "" {
				log.Warn("Graph API version", zap.String("event", "graph_version"), zap.String("reason", warning))
			}
			to := f.clientConfig()
			to.Now = p.jobs.Now
			if client, err = sendapi.NewClient(to); err != nil {
				return cli.Usage(InFlags(err, sendAPIFlags))
			}
			sends := deliver.Config{Client: client, ProbeEvery: f.ProbeEvery}
			cfg := f.workerConfig()
			cfg.Queue, cfg.Log = p.jobs, log
			if cfg.Pages, p.credentials, err = p.workerPages(p.pages, sends); err != nil {
				return err
			}
			p.brazeInsecure = f.GraphInsecure
			if back, err = p.openRoadBack(log); err != nil {
				return err
			}
			if back != nil {
				cfg.Ended = back.handler.Ended
			}
			if w, err = worker.New(cfg); err != nil {
				return err
			}
			if err := p.metrics.Register(w); err != nil {
				return fmt.Errorf("metrics of the worker: %w", err)
			}
			if subscriptions, err = subscription.New(subscription.Config{Queue: p.jobs, Client: client, Pages: subscribedPages(p.pages, p.credentials), Log: log}); err != nil {
				return err
			}
			if err := p.metrics.Register(subscriptions); err != nil {
				return fmt.Errorf("metrics of subscriptions: %w", err)
			}
			p.inFlight, p.slowed = w.InFlight, w.Slowed
			p.readiness = append(p.readiness, p.jobs.ReadyToWork)
			p.onPages = append(p.onPages, func(pages []pagefile.Page) error {
				worked, followed, err := p.workerPages(pages, sends)
				if err == nil {
					err = back.set(pages)
				}
				if err == nil {
					err = w.SetPages(worked)
				}
				if err == nil {
					err = subscriptions.SetPages(subscribedPages(pages, followed))
				}
				if err != nil {
					p.release(followed)
					return err
				}
				p.release(p.credentials) // files that the new pages have too are followed on
				p.credentials = followed
				warnOfCaps(log, pages)
				return nil
			})
			return nil
		},
		Run: func(ctx context.Context) error {
			return runBoth(ctx, w.Run, func(ctx context.Context) error { return runBoth(ctx, back.run, subscriptions.Run) })
		},
		Close: func() error { client.Close(); return nil },
	}
}

// runBoth runs two things until ctx ends or one of them fails. It returns when both have.
func runBoth(ctx context.Context, first, second func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	go func() {
		err := second(ctx)
		if err != nil {
			stop()
		}
		failed <- err
	}()
	err := first(ctx)
	stop()
	return errors.Join(err, <-failed)
}

// warnOfCaps names the pages that cannot reach their rate.
func warnOfCaps(log *zap.Logger, pages []pagefile.Page) {
	for _, p := range pages {
		for _, c := range p.Caps() {
			log.Warn("max_in_flight keeps a page below its rate", zap.String("event", "rate_capped"), zap.String("page", p.Name), zap.String("setting", c.Setting),
				zap.Float64("rate", c.Rate), zap.Int("max_in_flight", p.MaxInFlight), zap.Float64("capped_at", c.At), zap.Int("needed", c.Needed))
		}
	}
}

// workerPages are the pages as the worker knows them, each with its handler, and what they follow. Their files have been read
// once, but for those that take too long.
func (p *Process) workerPages(pages []pagefile.Page, sends deliver.Config) (works []worker.Page, all []*credentials, err error) {
	var reads []*file
	for _, page := range pages {
		cred := p.files.credentials(page.Secrets)
		all, reads = append(all, cred), append(reads, cred.files()...)
		handler, err := deliver.New(sends, deliver.Page{ID: page.ID, Name: page.Name, Credentials: cred.current, InDoubt: page.InDoubt, Repeats: page.Repeats, Metadata: page.Metadata})
		if err != nil {
			return nil, all, err
		}
		works = append(works, worker.Page{ID: page.ID, Name: page.Name, App: page.App, Rate: page.Rate, MediaRate: page.MediaRate, MaxInFlight: page.MaxInFlight,
			Handler: handler, Credentials: cred.fingerprint})
	}
	fresh(reads...)
	return works, all, nil
}

func (p *Process) release(all []*credentials) {
	for _, c := range all {
		for _, f := range c.files() {
			p.files.release(f)
		}
	}
}

// graphHost is the host of the Send API's URL, for the log.
func graphHost(graphURL string) string {
	u, err := url.Parse(graphURL)
	if err != nil { // a client was made of it
		return ""
	}
	return u.Host
}
