// Prints the first records of a topic, one line of JSON each: node consume.js BROKER TOPIC COUNT
const { Kafka, logLevel } = require("kafkajs");

const [broker, topic, count] = process.argv.slice(2);
const kafka = new Kafka({ clientId: "outsider", brokers: [broker], logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: `${topic}-kafkajs-${process.pid}` });
const text = (value) => (Array.isArray(value) ? value.map(String) : String(value));

async function main() {
  const wanted = Number(count);
  let printed = 0;
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await new Promise((finished, failed) => {
    consumer.on(consumer.events.CRASH, (crash) => failed(crash.payload.error));
    consumer
      .run({
        eachMessage: async ({ partition, message }) => {
          const headers = Object.fromEntries(
            Object.entries(message.headers).map(([name, value]) => [name, text(value)]),
          );
          const offset = Number(message.offset);
          process.stdout.write(JSON.stringify({ partition, offset, key: String(message.key), headers }) + "\n");
          printed += 1;
          if (printed === wanted) finished();
        },
      })
      .catch(failed);
  });
  await consumer.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
