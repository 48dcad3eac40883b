package process

import (
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/worker/subscription"
)

// subscribedPages are the pages whose webhooks are wanted, with their credentials, which are in the order of the pages.
func subscribedPages(pages []pagefile.Page, all []*credentials) (found []subscription.Page) {
	for i, p := range pages {
		if p.Webhooks != nil {
			found = append(found, subscription.Page{ID: p.ID, Name: p.Name, Credentials: all[i].current, Receipts: p.HasReceipts()})
		}
	}
	return found
}
