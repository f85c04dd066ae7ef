"""A bad cable between two network devices: frames are lost, late, out of order, or arrive with a flipped bit.

    bad_link.py DEVICE DEVICE DAMAGE        DAMAGE is JSON: lost, flipped (shares), leastDelayMs, mostDelayMs

Frames of veth devices carry no checksum yet (it is filled in when a packet leaves for real hardware, PACKET_VNET_HDR says
so), so the receiver's TCP believes a frame whose bit was flipped, as it would believe one in 65,536 of those that real hardware damages.
"""

import heapq
import json
import random
import selectors
import socket
import sys
import time

SOL_PACKET, PACKET_VNET_HDR = 263, 15
ETH_P_ALL = 3
PACKET_OUTGOING = 4
MOST_FRAME_BYTES = 1 << 17
# A frame as long as this holds more payload than headers: a bit that is flipped in its second half is in the payload.
PAYLOAD_FRAME_BYTES = 1000


def open_device(name):
    device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    device.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    device.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
    device.bind((name, ETH_P_ALL))
    device.setblocking(False)
    return device


def flip(frame):
    place = random.randrange(len(frame) // 2, len(frame))
    return frame[:place] + bytes([frame[place] ^ 1 << random.randrange(8)]) + frame[place + 1 :]


def main(left, right, damage):
    lost, flipped = damage.get("lost", 0), damage.get("flipped", 0)
    least, most = damage.get("leastDelayMs", 0) / 1000, damage.get("mostDelayMs", 0) / 1000
    devices = [open_device(left), open_device(right)]
    other = {devices[0]: devices[1], devices[1]: devices[0]}
    selector = selectors.DefaultSelector()
    for device in devices:
        selector.register(device, selectors.EVENT_READ)
    print("ready", flush=True)
    late, number = [], 0
    while True:
        wait = max(0, late[0][0] - time.monotonic()) if late else None
        for key, _ in selector.select(wait):
            frame, address = key.fileobj.recvfrom(MOST_FRAME_BYTES)
            if address[2] == PACKET_OUTGOING or random.random() < lost:
                continue
            if len(frame) > PAYLOAD_FRAME_BYTES and random.random() < flipped:
                frame = flip(frame)
            number += 1
            heapq.heappush(late, (time.monotonic() + random.uniform(least, most), number, other[key.fileobj], frame))
        while late and late[0][0] <= time.monotonic():
            _, _, device, frame = heapq.heappop(late)
            try:
                device.send(frame)
            except OSError:
                pass  # The link is down or its queue is full: one more lost frame.


main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
