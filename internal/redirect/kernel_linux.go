package redirect

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
)

// elementsPerMessage keeps a message below the 64 KiB that an attribute can be long.
const elementsPerMessage = 1000

// Apply puts the table into the network namespace of the calling thread, in one
// transaction, in place of one of the same name. It may be repeated.
func Apply(r Ruleset) error {
	conn, err := nftables.New(nftables.WithSockOptions(roomFor(r)))
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	table := ownTable(r.Table)
	// Adding first makes the deletion succeed where there is no table yet.
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	sets, err := addSets(conn, table, r.Sets)
	if err != nil {
		return err
	}
	if err := addChains(conn, table, r.Chains, sets); err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("adding nftables table inet %s: %w", r.Table, explain(err))
	}
	return nil
}

// Remove takes this package's table out of the network namespace of the calling
// thread. It is no error if there is none.
func Remove() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	conn.AddTable(ownTable(Table))
	conn.DelTable(ownTable(Table))
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("removing nftables table inet %s: %w", Table, explain(err))
	}
	return nil
}

func ownTable(name string) *nftables.Table {
	return &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
}

// addSets queues the sets and their elements.
func addSets(conn *nftables.Conn, table *nftables.Table, sets []Set) (map[string]*nftables.Set, error) {
	out := make(map[string]*nftables.Set, len(sets))
	for i, s := range sets {
		// Numbers tell sets of one transaction apart; the library's own are not safe for
		// concurrent use.
		set := &nftables.Set{Table: table, ID: uint32(i + 1), Name: s.Name, Interval: s.Type != Interfaces, KeyType: s.Type.kernel()}
		if err := conn.AddSet(set, nil); err != nil {
			return nil, fmt.Errorf("encoding set %s: %w", s.Name, err)
		}
		elements := s.kernelElements()
		for len(elements) > 0 {
			n := min(elementsPerMessage, len(elements))
			if err := conn.SetAddElements(set, elements[:n]); err != nil {
				return nil, fmt.Errorf("encoding elements of set %s: %w", s.Name, err)
			}
			elements = elements[n:]
		}
		out[s.Name] = set
	}
	return out, nil
}

// addChains queues the chains, all of them before the rules, since rules name chains.
func addChains(conn *nftables.Conn, table *nftables.Table, chains []Chain, sets map[string]*nftables.Set) error {
	for _, c := range chains {
		conn.AddChain(c.kernel(table))
	}
	for _, c := range chains {
		for _, rule := range c.Rules {
			exprs, err := rule.kernel(sets)
			if err != nil {
				return fmt.Errorf("encoding rule %q: %w", rule, err)
			}
			conn.AddRule(&nftables.Rule{
				Table: table, Chain: c.kernel(table), Exprs: exprs,
				UserData: userdata.AppendString(nil, userdata.TypeComment, rule.Comment),
			})
		}
	}
	return nil
}

// roomFor makes the socket's buffers big enough: a transaction is sent as a whole,
// and each of its messages is acknowledged before the first answer is read.
func roomFor(r Ruleset) nftables.SockOption {
	const perElement, perRule, least = 128, 2048, 1 << 18
	size := r.Size()
	bytes := max(least, 2*size.Elements*perElement+(size.Rules+size.Sets+size.Chains)*perRule)
	return func(conn *netlink.Conn) error {
		return errors.Join(conn.SetWriteBuffer(bytes), conn.SetReadBuffer(bytes))
	}
}

// explain adds to an error of the kernel's what can be done about it.
func explain(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: the capability NET_ADMIN is needed, which Kubernetes gives to containers that run as root", err)
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, syscall.EPROTONOSUPPORT), errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: the node's kernel needs nftables with NAT in tables of the family inet (Linux 5.2 or newer: nf_tables, nft_chain_nat, nft_redir)", err)
	}
	return err
}
