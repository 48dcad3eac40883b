package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/queue/ingress"
)

// Ingress is the part that takes messages over HTTP.
func (p *Process) Ingress(f IngressFlags) Part {
	var server *ingress.Server
	var pair *certificate
	var followed []*secrets // of the apps
	return Part{
		Name: "ingress",
		Open: func(context.Context) (err error) {
			log := cli.Component(p.log, "ingress")
			cfg := f.config()
			cfg.Queue, cfg.Pages, cfg.Log = p.jobs, ingressPages(p.pages), log
			cfg.Apps, followed = p.ingressApps(p.pages)
			if pair, err = f.certificate(log); err != nil {
				return cli.Usage(err)
			}
			if pair != nil {
				cfg.TLS = pair.config()
			}
			if server, err = ingress.Open(cfg); err != nil {
				if listen, ok := errors.AsType[*net.OpError](err); ok {
					err = &cli.FlagError{Flag: "--listen", Fault: listen.Error()}
				}
				return cli.Usage(InFlags(err, ingressFlags))
			}
			if err := p.metrics.Register(server); err != nil {
				return errors.Join(fmt.Errorf("metrics of the ingress: %w", err), server.Close())
			}
			if pair != nil {
				p.metrics.MustRegister(newCertificateMetric(pair))
			}
			p.IngressAddress = server.Addr().String()
			p.readiness = append(p.readiness, p.jobs.Ready)
			p.onPages = append(p.onPages, func(pages []pagefile.Page) error {
				if pagefile.HasRoadBack(pages) && !p.queueConfig.RoadBack {
					return errNewRoadBack
				}
				apps, reads := p.ingressApps(pages)
				err := server.SetPages(ingressPages(pages))
				if err == nil {
					err = server.SetApps(apps)
				}
				if err != nil {
					releaseAll(reads)
					return err
				}
				releaseAll(followed) // files that the new apps have too are followed on
				followed = reads
				return nil
			})
			return nil
		},
		Run: func(ctx context.Context) error {
			var following sync.WaitGroup
			defer following.Wait()
			if pair != nil {
				ctx, stop := context.WithCancel(ctx)
				defer stop()
				following.Go(func() { pair.follow(ctx, p.files) })
			}
			return server.Run(ctx)
		},
		Close: func() error { return server.Close() },
	}
}

// ingressApps are the apps as the ingress knows them, and the secrets that they follow.
func (p *Process) ingressApps(pages []pagefile.Page) (apps []ingress.App, followed []*secrets) {
	for _, app := range pagefile.Apps(pages) {
		signing, verifying := p.files.secrets("secret_files", app.SecretFiles), p.files.secrets("verify_token_file", []string{app.VerifyTokenFile})
		followed = append(followed, signing, verifying)
		taken := ingress.App{Name: app.Name, Secrets: signing.current, VerifyTokens: verifying.current}
		for _, page := range pages {
			if page.Webhooks == app {
				taken.Pages = append(taken.Pages, page.ID)
				if page.HasReceipts() {
					taken.Receipts = append(taken.Receipts, page.ID)
				}
			}
		}
		apps = append(apps, taken)
	}
	freshSecrets(followed)
	return apps, followed
}

// ingressPages are the pages as the ingress knows them.
func ingressPages(pages []pagefile.Page) (taken []ingress.Page) {
	for _, p := range pages {
		taken = append(taken, ingress.Page{ID: p.ID, Name: p.Name, Keys: p.Keys, Expire: p.Expire, QueueShare: p.QueueShare})
	}
	return taken
}
