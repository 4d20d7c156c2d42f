// Sends the records of standard input, one line of JSON each (key, value in base64), and prints partition and offset of
// each in the same order: node produce.js BROKER TOPIC
const { Kafka, logLevel } = require("kafkajs");
const lines = require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean).map(JSON.parse);

const [broker, topic] = process.argv.slice(2);
const kafka = new Kafka({ clientId: "outsider", brokers: [broker], logLevel: logLevel.ERROR });
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });

async function main() {
  await producer.connect();
  for (const { key, value } of lines) {
    const messages = [{ key, value: Buffer.from(value, "base64") }];
    const [sent] = await producer.send({ topic, acks: -1, messages });
    console.log(JSON.stringify({ partition: sent.partition, offset: Number(sent.baseOffset) }));
  }
  await producer.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
