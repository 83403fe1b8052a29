package redirect

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// natRangeSpecified is NF_NAT_RANGE_PROTO_SPECIFIED: the kernel sets it where a port
// is given, so that it is read back.
const natRangeSpecified = 2

// register is the register that values are loaded into; register 2 would overlap it.
const register = 1

func (t SetType) kernel() nftables.SetDatatype {
	switch t {
	case Ports:
		return nftables.TypeInetService
	case IPv4:
		return nftables.TypeIPAddr
	case IPv6:
		return nftables.TypeIP6Addr
	default:
		return nftables.TypeIFName
	}
}

// kernelElements writes ranges as the kernel holds them: an element where a range
// begins and one after its end, which is missing where the range ends with the last
// of all values. A set of interfaces has single values.
func (s Set) kernelElements() []nftables.SetElement {
	var out []nftables.SetElement
	for _, r := range s.Ranges {
		out = append(out, nftables.SetElement{Key: r.First})
		if s.Type == Interfaces {
			continue
		}
		if end, ok := successor(r.Last); ok {
			out = append(out, nftables.SetElement{Key: end, IntervalEnd: true})
		}
	}
	return out
}

func (c Chain) kernel(table *nftables.Table) *nftables.Chain {
	out := &nftables.Chain{Name: c.Name, Table: table}
	switch c.Hook {
	case Prerouting:
		out.Hooknum = nftables.ChainHookPrerouting
	case Output:
		out.Hooknum = nftables.ChainHookOutput
	default:
		return out
	}
	out.Type = nftables.ChainTypeNAT
	out.Priority = nftables.ChainPriorityRef(Priority)
	out.Policy = new(nftables.ChainPolicyAccept)
	return out
}

// kernel returns the rule's expressions: what the kernel runs for a packet, one after
// the other, until one does not hold.
func (r Rule) kernel(sets map[string]*nftables.Set) ([]expr.Any, error) {
	var out []expr.Any
	for _, m := range r.Matches {
		exprs, err := m.kernel(sets)
		if err != nil {
			return nil, err
		}
		out = append(out, exprs...)
	}
	verdict, err := r.Verdict.kernel()
	if err != nil {
		return nil, err
	}
	return append(out, verdict...), nil
}

func (m Match) kernel(sets map[string]*nftables.Set) ([]expr.Any, error) {
	out, err := m.Field.load(len(m.Value))
	if err != nil {
		return nil, err
	}
	if m.Set != "" {
		set, ok := sets[m.Set]
		if !ok {
			return nil, fmt.Errorf("there is no set %q", m.Set)
		}
		return append(out, &expr.Lookup{SourceRegister: register, SetName: set.Name, SetID: set.ID, Invert: m.Not}), nil
	}
	value := m.Value
	if m.Field == SocketUID {
		value = binary.NativeEndian.AppendUint32(nil, binary.BigEndian.Uint32(value))
	}
	return append(out, compare(value, m.Not)), nil
}

// load returns the expressions that load a field, or its first bytes if length is
// not 0; those of an address check first that the packet has one of the family.
func (f Field) load(length int) ([]expr.Any, error) {
	meta := func(key expr.MetaKey) []expr.Any { return []expr.Any{&expr.Meta{Key: key, Register: register}} }
	address := func(family byte, offset, whole int) []expr.Any {
		if length > 0 {
			whole = length
		}
		return append(meta(expr.MetaKeyNFPROTO), compare([]byte{family}, false), &expr.Payload{
			OperationType: expr.PayloadLoad, DestRegister: register, Base: expr.PayloadBaseNetworkHeader,
			Offset: uint32(offset), Len: uint32(whole),
		})
	}
	switch f {
	case Protocol:
		return meta(expr.MetaKeyL4PROTO), nil
	case InInterface:
		return meta(expr.MetaKeyIIFNAME), nil
	case OutInterface:
		return meta(expr.MetaKeyOIFNAME), nil
	case SocketUID:
		return meta(expr.MetaKeySKUID), nil
	case DestIPv4:
		return address(unix.NFPROTO_IPV4, 16, 4), nil
	case DestIPv6:
		return address(unix.NFPROTO_IPV6, 24, 16), nil
	case DestPort:
		return []expr.Any{&expr.Payload{
			OperationType: expr.PayloadLoad, DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2,
		}}, nil
	default:
		return nil, fmt.Errorf("unknown field %q", f)
	}
}

func compare(value []byte, not bool) expr.Any {
	op := expr.CmpOpEq
	if not {
		op = expr.CmpOpNeq
	}
	return &expr.Cmp{Op: op, Register: register, Data: value}
}

func (v Verdict) kernel() ([]expr.Any, error) {
	switch v.Action {
	case Return:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}, nil
	case GoTo:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: v.Chain}}, nil
	case Redirect:
		return []expr.Any{
			&expr.Immediate{Register: register, Data: be16(v.Port)},
			&expr.Redir{RegisterProtoMin: register, RegisterProtoMax: register, Flags: natRangeSpecified},
		}, nil
	case DNAT:
		family := uint32(unix.NFPROTO_IPV4)
		if v.Addr.Is6() {
			family = unix.NFPROTO_IPV6
		}
		return []expr.Any{
			&expr.Immediate{Register: register, Data: v.Addr.AsSlice()},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: register, RegAddrMax: register},
		}, nil
	default:
		return nil, fmt.Errorf("unknown action %q", v.Action)
	}
}
