package redirect

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Verify reads the table back from the network namespace of the calling thread and
// says where it is not the ruleset.
func Verify(r Ruleset) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	if err := verify(conn, r); err != nil {
		return fmt.Errorf("reading back nftables table inet %s: %w", r.Table, err)
	}
	return nil
}

func verify(conn *nftables.Conn, r Ruleset) error {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == r.Table })
	if i < 0 {
		return fmt.Errorf("there is no such table")
	}
	if tables[i].Flags != 0 {
		return fmt.Errorf("the table has flags %#x: it may be switched off", tables[i].Flags)
	}
	sets, err := verifySets(conn, tables[i], r.Sets)
	if err != nil {
		return err
	}
	return verifyChains(conn, tables[i], r.Chains, sets)
}

func verifySets(conn *nftables.Conn, table *nftables.Table, want []Set) (map[string]*nftables.Set, error) {
	sets, err := conn.GetSets(table)
	if err != nil {
		return nil, fmt.Errorf("sets: %w", err)
	}
	got := make(map[string]*nftables.Set, len(sets))
	for _, s := range sets {
		got[s.Name] = s
	}
	if len(got) != len(want) {
		return nil, fmt.Errorf("%d sets, want %d", len(got), len(want))
	}
	for _, w := range want {
		set, ok := got[w.Name]
		if !ok {
			return nil, fmt.Errorf("set %s is missing", w.Name)
		}
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return nil, fmt.Errorf("elements of set %s: %w", w.Name, err)
		}
		if set.KeyType.Name != string(w.Type) || !slices.Equal(keys(elements), keys(w.kernelElements())) {
			return nil, fmt.Errorf("set %s is not as planned", w.Name)
		}
	}
	return got, nil
}

// keys returns what tells elements apart, sorted: the kernel has an order of its own.
func keys(elements []nftables.SetElement) []string {
	out := make([]string, len(elements))
	for i, e := range elements {
		out[i] = fmt.Sprintf("%x %t", e.Key, e.IntervalEnd)
	}
	slices.Sort(out)
	return out
}

func verifyChains(conn *nftables.Conn, table *nftables.Table, want []Chain, sets map[string]*nftables.Set) error {
	all, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("chains: %w", err)
	}
	got := make(map[string]*nftables.Chain, len(want))
	for _, c := range all {
		if c.Table.Name == table.Name {
			got[c.Name] = c
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d chains, want %d", len(got), len(want))
	}
	for _, w := range want {
		chain, ok := got[w.Name]
		if !ok {
			return fmt.Errorf("chain %s is missing", w.Name)
		}
		if g, w := describe(chain), describe(w.kernel(table)); g != w {
			return fmt.Errorf("chain %s is %s, want %s", chain.Name, g, w)
		}
		rules, err := conn.GetRules(table, chain)
		if err != nil {
			return fmt.Errorf("rules of chain %s: %w", w.Name, err)
		}
		if err := verifyRules(w, rules, sets); err != nil {
			return err
		}
	}
	return nil
}

// describe says where the kernel enters a chain.
func describe(c *nftables.Chain) string {
	if c.Hooknum == nil {
		return "without a hook"
	}
	priority, policy := nftables.ChainPriority(0), nftables.ChainPolicyAccept
	if c.Priority != nil {
		priority = *c.Priority
	}
	if c.Policy != nil {
		policy = *c.Policy
	}
	return fmt.Sprintf("%s at hook %d, priority %d, policy %d", c.Type, *c.Hooknum, priority, policy)
}

func verifyRules(want Chain, got []*nftables.Rule, sets map[string]*nftables.Set) error {
	if len(got) != len(want.Rules) {
		return fmt.Errorf("chain %s has %d rules, want %d", want.Name, len(got), len(want.Rules))
	}
	for i, rule := range want.Rules {
		exprs, err := rule.kernel(sets)
		if err != nil {
			return err
		}
		w, err := encode(exprs)
		if err != nil {
			return err
		}
		g, err := encode(got[i].Exprs)
		if err != nil {
			return err
		}
		if !bytes.Equal(g, w) {
			return fmt.Errorf("rule %d of chain %s is not %q", i+1, want.Name, strings.TrimSpace(rule.String()))
		}
	}
	return nil
}

// encode writes expressions as they are sent, without what is true for one
// transaction only.
func encode(exprs []expr.Any) ([]byte, error) {
	var out []byte
	for _, e := range exprs {
		if lookup, ok := e.(*expr.Lookup); ok {
			named := *lookup
			named.SetID = 0
			e = &named
		}
		b, err := expr.Marshal(byte(nftables.TableFamilyINet), e)
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}
