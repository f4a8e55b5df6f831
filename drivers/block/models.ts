// Kinds of storage and their times: what a read takes at best, as a healthy device shows, and at worst. Rates of interfaces are those of the
// specifications; latencies are of the class that datasheets give; what rests on nobody's word is called an assumption, and stands on the safe
// side. `man disk` prints this table.

import type { DiskModel, Timing } from '../../kernel/abi/index.ts';

const US = 1000;
const MS = 1000 * US;

/** Picoseconds a byte at rates in MB/s: 10¹² ÷ (rate · 10⁶), the best rounded down, the others up. */
const perByte = (best: number, typical: number, worst: number): Timing => ({
  least: Math.floor(1e6 / best),
  typical: Math.ceil(1e6 / typical),
  most: Math.ceil(1e6 / worst),
});

export const DISK_MODELS: readonly DiskModel[] = [
  {
    name: 'nvme',
    title: 'NVMe SSD, PCIe 3.0 x4',
    latencyNs: { least: 10 * US, typical: 70 * US, most: 5 * MS },
    bytePs: perByte(3938, 3400, 1000),
    queueDepth: 1023,
    sectorBytes: 512,
    retries: 1,
    source:
      'PCI Express 3.0: 8 GT/s a lane, 128b/130b, four lanes: 3,938 MB/s; NVM Express: up to 65,535 commands a queue, of which Linux uses 1,023; published of the Samsung 970 EVO: 3,400 MB/s in order, 15,000 reads of 4 KiB a second, one at a time',
    why: '15,000 reads a second are 67 us each; best: what the link and a controller take whose buffer holds the data, assumption; worst: a read behind the erase of its die, and a drive that has slowed down to 1 GB/s for its temperature, assumption',
  },
  {
    name: 'emmc',
    title: 'eMMC 5.1, HS400',
    latencyNs: { least: 50 * US, typical: 150 * US, most: 20 * MS },
    bytePs: perByte(400, 250, 50),
    queueDepth: 1,
    sectorBytes: 512,
    retries: 1,
    source:
      'JEDEC JESD84-B51: HS400, 200 MHz, both edges, eight lines: 400 MB/s; published of the first eMMC 5.1 parts (Samsung, 2015): 250 MB/s in order, 11,000 reads of 4 KiB a second with the command queue',
    why: 'the command queue is optional and taken to be off, so that a read takes longer than 1 / 11,000 s: 150 us, assumption; worst: garbage collection in the way of every read, assumption',
  },
  {
    name: 'sd',
    title: 'SD card, UHS-I SDR104',
    latencyNs: { least: 100 * US, typical: 600 * US, most: 100 * MS },
    bytePs: perByte(104, 90, 10),
    queueDepth: 1,
    sectorBytes: 512,
    retries: 2,
    source:
      'SD Physical Layer Simplified Specification: SDR104, 208 MHz, four lines: 104 MB/s; 100 ms until a host gives a read up; application performance class A1: 1,500 reads of 4 KiB a second; class 10: 10 MB/s',
    why: 'one of 1,500 reads a second takes 667 us, of which 4 KiB transfer in 46 us; 90 MB/s in order: assumption; worst: the time-out of the specification, and the rate of class 10, which speaks of writing: for reading an assumption',
  },
  {
    name: 'sd-spi',
    title: 'SD card, SPI mode at 25 MHz',
    latencyNs: { least: 100 * US, typical: 800 * US, most: 100 * MS },
    bytePs: perByte(3.125, 2.8, 1.5625),
    queueDepth: 1,
    sectorBytes: 512,
    retries: 2,
    source:
      'SD Physical Layer Simplified Specification: SPI mode, 25 MHz, one line: 3.125 MB/s; 100 ms until a host gives a read up',
    why: 'typical: each 512 bytes bring a token, 16 bits of CRC and idle bytes between, and the driver its own, assumption; worst: half the clock, assumption',
  },
  {
    name: 'qspi',
    title: 'QSPI NOR flash at 133 MHz',
    latencyNs: { least: 150, typical: 1 * US, most: 2 * US },
    bytePs: perByte(66.5, 66.5, 52),
    queueDepth: 1,
    sectorBytes: 4,
    retries: 0,
    source:
      'Winbond W25Q128JV: Fast Read Quad I/O at 133 MHz, four lines: 66.5 MB/s, behind 20 clocks of command, address, mode and waiting; 104 MHz at the lowest voltage: 52 MB/s',
    why: '20 clocks at 133 MHz are 150 ns; the rest of the latency is the controller and its driver, assumption. The array has nothing else to do, so that the worst is near. A sector is a word, as reading knows no larger unit',
  },
  {
    name: 'ram',
    title: 'RAM disk',
    latencyNs: { least: 200, typical: 1 * US, most: 4 * US },
    bytePs: perByte(12800, 4000, 1000),
    queueDepth: 1,
    sectorBytes: 512,
    retries: 0,
    source: 'LPDDR4-3200, 32 lines: 12.8 GB/s; the others: assumption',
    why: 'a copy within one memory, which it reads and writes: 4 GB/s, at worst 1 GB/s behind others; the latency is the driver',
  },
];
